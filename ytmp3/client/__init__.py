"""The command-line client: submits links to a service, follows the jobs, and downloads the tracks.

The rule: it uses the standard library only, and nothing of the service but its HTTP API. So it starts fast, and its
folder alone runs on a machine that has nothing but Python.

    arguments    the commands and their options          progress    bars on a terminal, lines elsewhere
    commands     get, status, jobs and cancel            names       the file name of a track
    work         the jobs of one `get`, to their ends    api         requests and their errors
    download     one track, resumed and verified         private     a service inside the client

It does not decide what is accepted: the service does, and the client prints the answer.
"""
