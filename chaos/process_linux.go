package chaos

import "syscall"

// dieWithParent has a process killed also when the test process is.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
