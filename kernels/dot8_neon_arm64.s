//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"
#include "rows_arm64.h"

// Sixteen clear bytes and sixteen set ones: the sixteen from byte n on have the last n set.
DATA lastBytes<>+0x00(SB)/8, $0
DATA lastBytes<>+0x08(SB)/8, $0
DATA lastBytes<>+0x10(SB)/8, $-1
DATA lastBytes<>+0x18(SB)/8, $-1
GLOBL lastBytes<>(SB), RODATA|NOPTR, $32

// func dot8NEON(query *int8, rows *byte, dim, stride int, which *uint32, count int, out *int32)
//
// dim is at least 16. Registers as in rows_arm64.h, and
//
//	V0..V3    sums of the four rows
//	V16       query
//	V17..V20  rows
//	V21..V28  products, as words
//	V31       the last 16 elements of query: those that a whole vector has had are 0
//
// A product of two bytes fits a word, that of -128 and -128 too; pairs of words are added up in 32
// bits.
TEXT ·dot8NEON(SB), NOSPLIT, $0-56
	MOVD query+0(FP), R0
	MOVD rows+8(FP), R1
	MOVD dim+16(FP), R2
	MOVD stride+24(FP), R6
	MOVD which+32(FP), R3
	MOVD count+40(FP), R4
	MOVD out+48(FP), R5

	AND  $15, R2, R12
	MOVD $lastBytes<>(SB), R13
	ADD  R12, R13, R13
	VLD1 (R13), [V31.B16]
	ADD  R0, R2, R13
	SUB  $16, R13
	VLD1 (R13), [V16.B16]
	VAND V16.B16, V31.B16, V31.B16

group:
	ROW_POINTERS
	VEOR V0.B16, V0.B16, V0.B16
	VEOR V1.B16, V1.B16, V1.B16
	VEOR V2.B16, V2.B16, V2.B16
	VEOR V3.B16, V3.B16, V3.B16
	SUB  $16, R2, R12

loop:
	VLD1.P 16(R7), [V16.B16]
	VLD1.P 16(R8), [V17.B16]
	VLD1.P 16(R9), [V18.B16]
	VLD1.P 16(R10), [V19.B16]
	VLD1.P 16(R11), [V20.B16]
	SMULL(16, 17, 21)
	SMULL2(16, 17, 22)
	SADALP(21, 0)
	SADALP(22, 0)
	SMULL(16, 18, 23)
	SMULL2(16, 18, 24)
	SADALP(23, 1)
	SADALP(24, 1)
	SMULL(16, 19, 25)
	SMULL2(16, 19, 26)
	SADALP(25, 2)
	SADALP(26, 2)
	SMULL(16, 20, 27)
	SMULL2(16, 20, 28)
	SADALP(27, 3)
	SADALP(28, 3)
	SUBS $16, R12
	BGE  loop

	// The rows are where R12 + 16 elements are left, so that their last 16 begin R12 further on.
	ADDS $16, R12, R13
	BEQ  reduce
	MOVD R12, R14
	ADD  R14, R8, R13
	VLD1 (R13), [V17.B16]
	ADD  R14, R9, R13
	VLD1 (R13), [V18.B16]
	ADD  R14, R10, R13
	VLD1 (R13), [V19.B16]
	ADD  R14, R11, R13
	VLD1 (R13), [V20.B16]
	SMULL(31, 17, 21)
	SMULL2(31, 17, 22)
	SADALP(21, 0)
	SADALP(22, 0)
	SMULL(31, 18, 23)
	SMULL2(31, 18, 24)
	SADALP(23, 1)
	SADALP(24, 1)
	SMULL(31, 19, 25)
	SMULL2(31, 19, 26)
	SADALP(25, 2)
	SADALP(26, 2)
	SMULL(31, 20, 27)
	SMULL2(31, 20, 28)
	SADALP(27, 3)
	SADALP(28, 3)

reduce:
	VADDP V1.S4, V0.S4, V0.S4
	VADDP V3.S4, V2.S4, V2.S4
	VADDP V2.S4, V0.S4, V0.S4
	STORE_GROUP
