# What the bash kernel runs first. The server goes on writing commands to the
# descriptor that this is read from: a shell that reads them one by one has no
# loop and no function of its own around the code. Events go to descriptor 4.
exec 0</dev/null
__cube_count=0
# An interruption ends what runs in the foreground, and the loops around it.
trap 'break 1000 2>/dev/null' INT
