//go:build !noasm

#include "textflag.h"

// func prefetch(b *byte, size int)
//
//	SI  the line that is next
//	CX  bytes left, counted from the start of the first line
TEXT ·prefetch(SB), NOSPLIT, $0-16
	MOVQ b+0(FP), SI
	MOVQ size+8(FP), CX
	MOVQ SI, AX
	ANDQ $63, AX
	ADDQ AX, CX
	SUBQ AX, SI

line:
	PREFETCHT0 (SI)
	ADDQ $64, SI
	SUBQ $64, CX
	JGT  line
	RET
