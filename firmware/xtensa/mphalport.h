// There is no hardware: output is a Linux system call, in main.c.
