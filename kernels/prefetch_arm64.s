//go:build !noasm

#include "textflag.h"

// func prefetch(b *byte, size int)
//
//	R0  the line that is next
//	R1  bytes left, counted from the start of the first line
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVD b+0(FP), R0
	MOVD size+8(FP), R1
	AND  $63, R0, R2
	ADD  R2, R1
	SUB  R2, R0

line:
	PRFM (R0), PLDL1KEEP
	ADD  $64, R0
	SUBS $64, R1
	BGT  line
	RET
