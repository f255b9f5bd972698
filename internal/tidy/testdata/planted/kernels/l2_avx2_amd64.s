#include "textflag.h"

// func l2(a, b *float32) float32
// MOVUPS X0, X1 in a comment is fine.
TEXT ·l2(SB), NOSPLIT, $0-20
	MOVQ a+0(FP), AX
	VMOVUPS (AX), Y0
	VEXTRACTF128 $1, Y0, X1
	ADDPS X1, X0
	MOVSS X0, ret+16(FP)
	VADDPS X1, X0, X0
	VHADDPS X0, X0, X0; MOVAPS X0, X1
	VZEROUPPER
	RET
