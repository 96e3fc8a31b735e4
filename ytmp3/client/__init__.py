"""The command-line client: submits links to a service, follows the jobs, and downloads or plays the tracks.

The rule: it imports only the standard library, and reaches the service only through the HTTP API. So it starts fast,
and its folder alone runs on a machine that has only Python.

    arguments    the commands and their options          progress    bars on a terminal, lines elsewhere
    commands     get, listen, status and others           names       the file name of a track
    work         the links of one `get`                  updates     changes of jobs, streamed or polled
    playlists    the batch of a playlist                 stalls      when to give up waiting
    download     one track, resumed and verified         api         requests and their errors
    private      a service inside the client             shell       completion and man page
    listen       the sound while it is converted

It does not validate links or qualities: the service does, and the client prints the response.
"""
