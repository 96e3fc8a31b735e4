from ytmp3.cli import main

main()
