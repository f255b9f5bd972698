//go:build !noasm

#include "textflag.h"
#include "rows_amd64.h"
#include "floats_avx512_amd64.h"

// STEP adds the products of 16 elements of four rows.
#define STEP \
	VMOVUPS     (DX)(AX*1), Z4      \
	VFMADD231PS (R10)(AX*1), Z4, Z0 \
	VFMADD231PS (R11)(AX*1), Z4, Z1 \
	VFMADD231PS (R12)(AX*1), Z4, Z2 \
	VFMADD231PS (R13)(AX*1), Z4, Z3

// func dotAVX512(query, rows *float32, dim int, which *uint32, count int, out *float32)
//
// Registers as in rows_amd64.h, and
//
//	Z0, Z1, Z2, Z3  sums of the four rows
//	Z4              query
//	K1              the lanes of a row's last, partial vector
TEXT ·dotAVX512(SB), NOSPLIT, $0-48
	MOVQ query+0(FP), DX
	MOVQ rows+8(FP), SI
	MOVQ dim+16(FP), R8
	MOVQ which+24(FP), R9
	MOVQ count+32(FP), CX
	MOVQ out+40(FP), DI
	SPLIT_ROW
	FIRST_ROWS(BX)

group:
	ROW_POINTERS(BX)
	ZERO_SUMS
	XORQ AX, AX
	CMPQ AX, R8
	JGE  tail

	TESTQ R14, R14
	JLE   loop

ahead:
	PREFETCH_NEXT(0)
	PREFETCH_NEXT(64)
	PREFETCH_NEXT(128)
	PREFETCH_NEXT(192)
	STEP
	ADDQ  $64, AX
	CMPQ  AX, R8
	JLT   ahead
	JMP   tail

loop:
	STEP
	ADDQ  $64, AX
	CMPQ  AX, R8
	JLT   loop

tail:
	CMPQ AX, BX
	JGE  reduce

	// Lanes past the end are not read, and their sums stay.
	VMOVUPS.Z   (DX)(AX*1), K1, Z4
	VFMADD231PS (R10)(AX*1), Z4, K1, Z0
	VFMADD231PS (R11)(AX*1), Z4, K1, Z1
	VFMADD231PS (R12)(AX*1), Z4, K1, Z2
	VFMADD231PS (R13)(AX*1), Z4, K1, Z3

reduce:
	REDUCE_SUMS
	STORE_GROUP
