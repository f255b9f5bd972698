//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"

// The lanes 0..3 whose number has bit 0, 1 set.
DATA bit0<>+0x00(SB)/8, $0xffffffff00000000
DATA bit0<>+0x08(SB)/8, $0xffffffff00000000
GLOBL bit0<>(SB), RODATA|NOPTR, $16
DATA bit1<>+0x00(SB)/8, $0
DATA bit1<>+0x08(SB)/8, $-1
GLOBL bit1<>(SB), RODATA|NOPTR, $16

// QUANTIZE turns values into the integers 0..63, in the order of the reference.
#define QUANTIZE(values) \
	FDIV(28, values, values) \
	FMUL(27, values, values) \
	FADD(26, values, values) \
	FMAX(24, values, values) \
	FMIN(25, values, values) \
	FCVTZU(values, values)

// func signTablesNEON(query *float32, tables int, lut *byte, widest float32)
//
//	R0        query, from the table on that is next
//	R1        tables left
//	R2        lut
//	V0..V3    an element each of the table's four, in every lane; then twice that
//	V4..V7    values of the entries 0..3, 4..7, 8..11, 12..15
//	V16, V17  scratch
//	V20, V21  lanes with bit 0, 1 set
//	V24..V28  0, 63, 0.5, 31.5, widest
TEXT ·signTablesNEON(SB), NOSPLIT, $0-28
	MOVD  query+0(FP), R0
	MOVD  tables+8(FP), R1
	MOVD  lut+16(FP), R2
	MOVWU widest+24(FP), R3
	VDUP  R3, V28.S4
	MOVD  $0x41fc0000, R3
	VDUP  R3, V27.S4
	MOVD  $0x3f000000, R3
	VDUP  R3, V26.S4
	MOVD  $0x427c0000, R3
	VDUP  R3, V25.S4
	VEOR  V24.B16, V24.B16, V24.B16
	MOVD  $bit0<>(SB), R3
	VLD1  (R3), [V20.B16]
	MOVD  $bit1<>(SB), R3
	VLD1  (R3), [V21.B16]

table:
	VLD4R.P 16(R0), [V0.S4, V1.S4, V2.S4, V3.S4]

	// Entry 0: the sum of magnitudes less the sum.
	FABS(0, 4)
	FABS(1, 16)
	FADD(16, 4, 4)
	FABS(2, 16)
	FADD(16, 4, 4)
	FABS(3, 16)
	FADD(16, 4, 4)
	FADD(1, 0, 17)
	FADD(2, 17, 17)
	FADD(3, 17, 17)
	FSUB(17, 4, 4)

	// Twice an element more where its bit is set.
	FADD(0, 0, 0)
	FADD(1, 1, 1)
	FADD(2, 2, 2)
	FADD(3, 3, 3)
	VAND V20.B16, V0.B16, V0.B16
	VAND V21.B16, V1.B16, V1.B16
	FADD(0, 4, 4)
	FADD(1, 4, 4)
	FADD(2, 4, 5)
	FADD(3, 4, 6)
	FADD(3, 5, 7)

	QUANTIZE(4)
	QUANTIZE(5)
	QUANTIZE(6)
	QUANTIZE(7)
	VUZP1  V5.H8, V4.H8, V4.H8
	VUZP1  V7.H8, V6.H8, V6.H8
	VUZP1  V6.B16, V4.B16, V4.B16
	VST1.P [V4.B16], 16(R2)
	SUBS   $1, R1
	BNE    table
	RET
