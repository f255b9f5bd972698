//go:build !noasm

#include "textflag.h"
#include "rows_amd64.h"
#include "dot8_avx2_amd64.h"

// ROW_BYTES are those to prefetch: what follows them up to the next row is not used.
#define ROW_BYTES dim+16(FP)

// func dot8AVX2(query *int8, rows *byte, dim, stride int, which *uint32, count int, out *int32)
//
// dim is at least 32 and no element of query is -128.
TEXT ·dot8AVX2(SB), NOSPLIT, $0-56
	MOVQ query+0(FP), DX
	MOVQ rows+8(FP), SI
	MOVQ dim+16(FP), R8
	MOVQ stride+24(FP), BX
	MOVQ which+32(FP), R9
	MOVQ count+40(FP), CX
	MOVQ out+48(FP), DI

	PREPARE
	FIRST_ROWS(ROW_BYTES)

group:
	ROW_POINTERS(ROW_BYTES)
	CLEAR
	TESTQ R14, R14
	JLE   loop

ahead:
	PREFETCH_NEXT(0)
	PREFETCH_NEXT(64)
	STEP
	ADDQ  $32, AX
	CMPQ  AX, R8
	JLT   ahead
	JMP   last

loop:
	STEP
	ADDQ  $32, AX
	CMPQ  AX, R8
	JLT   loop

last:
	MOVQ dim+16(FP), AX
	CMPQ AX, R8
	JEQ  reduce
	LAST

reduce:
	REDUCE
	STORE_GROUP
