// No hardware to talk to: output is a Linux system call, in main.c.
