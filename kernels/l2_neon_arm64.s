//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"
#include "rows_arm64.h"

// func l2NEON(query, rows *float32, dim int, which *uint32, count int, out *float32)
//
// Registers as in rows_arm64.h, and
//
//	V0..V3    sums of the four rows
//	V4..V7    more of them, so that additions do not wait for each other
//	V16, V17  query
//	V18..V25  rows, then differences
TEXT ·l2NEON(SB), NOSPLIT, $0-48
	MOVD query+0(FP), R0
	MOVD rows+8(FP), R1
	MOVD dim+16(FP), R2
	MOVD which+24(FP), R3
	MOVD count+32(FP), R4
	MOVD out+40(FP), R5
	LSL  $2, R2, R6

group:
	ROW_POINTERS
	VEOR V0.B16, V0.B16, V0.B16
	VEOR V1.B16, V1.B16, V1.B16
	VEOR V2.B16, V2.B16, V2.B16
	VEOR V3.B16, V3.B16, V3.B16
	VEOR V4.B16, V4.B16, V4.B16
	VEOR V5.B16, V5.B16, V5.B16
	VEOR V6.B16, V6.B16, V6.B16
	VEOR V7.B16, V7.B16, V7.B16
	SUBS $8, R2, R12
	BLT  tail

loop:
	VLD1.P 32(R7), [V16.S4, V17.S4]
	VLD1.P 32(R8), [V18.S4, V19.S4]
	FSUB(18, 16, 18)
	FSUB(19, 17, 19)
	VFMLA V18.S4, V18.S4, V0.S4
	VFMLA V19.S4, V19.S4, V4.S4
	VLD1.P 32(R9), [V20.S4, V21.S4]
	FSUB(20, 16, 20)
	FSUB(21, 17, 21)
	VFMLA V20.S4, V20.S4, V1.S4
	VFMLA V21.S4, V21.S4, V5.S4
	VLD1.P 32(R10), [V22.S4, V23.S4]
	FSUB(22, 16, 22)
	FSUB(23, 17, 23)
	VFMLA V22.S4, V22.S4, V2.S4
	VFMLA V23.S4, V23.S4, V6.S4
	VLD1.P 32(R11), [V24.S4, V25.S4]
	FSUB(24, 16, 24)
	FSUB(25, 17, 25)
	VFMLA V24.S4, V24.S4, V3.S4
	VFMLA V25.S4, V25.S4, V7.S4
	SUBS $8, R12
	BGE  loop

	// Loading one element clears the other lanes, which then add nothing.
tail:
	ADDS $8, R12
	BEQ  reduce

element:
	FMOVS.P 4(R7), F16
	FMOVS.P 4(R8), F18
	FSUB(18, 16, 18)
	VFMLA V18.S4, V18.S4, V0.S4
	FMOVS.P 4(R9), F20
	FSUB(20, 16, 20)
	VFMLA V20.S4, V20.S4, V1.S4
	FMOVS.P 4(R10), F22
	FSUB(22, 16, 22)
	VFMLA V22.S4, V22.S4, V2.S4
	FMOVS.P 4(R11), F24
	FSUB(24, 16, 24)
	VFMLA V24.S4, V24.S4, V3.S4
	SUBS $1, R12
	BNE  element

reduce:
	FADD(4, 0, 0)
	FADD(5, 1, 1)
	FADD(6, 2, 2)
	FADD(7, 3, 3)
	FADDP(1, 0, 0)
	FADDP(3, 2, 2)
	FADDP(2, 0, 0)
	STORE_GROUP
