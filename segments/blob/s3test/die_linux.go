package s3test

import "syscall"

// dieWithParent has the server killed also when the test process is.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
