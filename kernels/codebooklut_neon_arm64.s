//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"

// ADD_ELEMENT adds the products of one element of the query, in every lane of a vector, with the
// next 16 elements of the codebook.
#define ADD_ELEMENT(q) \
	VLD1.P 64(R1), [V16.S4, V17.S4, V18.S4, V19.S4] \
	FMUL(q, 16, 16) \
	FMUL(q, 17, 17) \
	FMUL(q, 18, 18) \
	FMUL(q, 19, 19) \
	FADD(16, 4, 4)  \
	FADD(17, 5, 5)  \
	FADD(18, 6, 6)  \
	FADD(19, 7, 7)

// VALUES leaves the values of a table in V4..V7, in the order of the reference.
//
//	R0        query, from the table on that is next
//	R1        codebook, likewise
//	R2        tables left
//	V0..V3    an element each of the table's four, in every lane
//	V4..V7    values of the entries 0..3, 4..7, 8..11, 12..15
//	V16..V19  scratch
#define VALUES \
	VLD4R.P 16(R0), [V0.S4, V1.S4, V2.S4, V3.S4] \
	VLD1.P  64(R1), [V4.S4, V5.S4, V6.S4, V7.S4] \
	FMUL(0, 4, 4)  \
	FMUL(0, 5, 5)  \
	FMUL(0, 6, 6)  \
	FMUL(0, 7, 7)  \
	ADD_ELEMENT(1) \
	ADD_ELEMENT(2) \
	ADD_ELEMENT(3)

// LEAST leaves the minimum of the values in V20, in every lane.
#define LEAST \
	FMIN(5, 4, 16)   \
	FMIN(7, 6, 17)   \
	FMIN(17, 16, 16) \
	FMINV(16, 16)    \
	VDUP V16.S[0], V20.S4

// func codebookSpansNEON(query, codebook *float32, tables int) (widest, total float32)
//
//	V20, V21  minimum and maximum of a table
//	V22, V23  widest, total
TEXT ·codebookSpansNEON(SB), NOSPLIT, $0-32
	MOVD query+0(FP), R0
	MOVD codebook+8(FP), R1
	MOVD tables+16(FP), R2
	VEOR V22.B16, V22.B16, V22.B16
	VEOR V23.B16, V23.B16, V23.B16

table:
	VALUES
	LEAST
	FMAX(5, 4, 16)
	FMAX(7, 6, 17)
	FMAX(17, 16, 16)
	FMAXV(16, 21)
	FSUB(20, 21, 21)
	FMAX(21, 22, 22)
	FADD(20, 23, 23)
	SUBS  $1, R2
	BNE   table
	FMOVS F22, widest+24(FP)
	FMOVS F23, total+28(FP)
	RET

// QUANTIZE turns values into the integers 0..63, in the order of the reference.
#define QUANTIZE(values) \
	FSUB(20, values, values) \
	FDIV(28, values, values) \
	FMUL(25, values, values) \
	FADD(26, values, values) \
	FMAX(24, values, values) \
	FMIN(25, values, values) \
	FCVTZU(values, values)

// func codebookTablesNEON(query, codebook *float32, tables int, lut *byte, widest float32)
//
//	R3                  lut
//	V20                 minimum of a table
//	V24, V25, V26, V28  0, 63, 0.5, widest
TEXT ·codebookTablesNEON(SB), NOSPLIT, $0-36
	MOVD  query+0(FP), R0
	MOVD  codebook+8(FP), R1
	MOVD  tables+16(FP), R2
	MOVD  lut+24(FP), R3
	MOVWU widest+32(FP), R4
	VDUP  R4, V28.S4
	MOVD  $0x3f000000, R4
	VDUP  R4, V26.S4
	MOVD  $0x427c0000, R4
	VDUP  R4, V25.S4
	VEOR  V24.B16, V24.B16, V24.B16

table:
	VALUES
	LEAST
	QUANTIZE(4)
	QUANTIZE(5)
	QUANTIZE(6)
	QUANTIZE(7)
	VUZP1  V5.H8, V4.H8, V4.H8
	VUZP1  V7.H8, V6.H8, V6.H8
	VUZP1  V6.B16, V4.B16, V4.B16
	VST1.P [V4.B16], 16(R3)
	SUBS   $1, R2
	BNE    table
	RET
