//go:build !noasm

#define ROWS_BY_POINTER

#include "textflag.h"
#include "rows_amd64.h"
#include "dot8_avx2_amd64.h"

#define ROW_BYTES dim+16(FP)

// func dot8EachAVX2(query *int8, rows **byte, dim, count int, out *int32)
//
// dim is at least 32 and no element of query is -128.
TEXT ·dot8EachAVX2(SB), NOSPLIT, $0-40
	MOVQ query+0(FP), DX
	MOVQ rows+8(FP), R9
	MOVQ dim+16(FP), R8
	MOVQ count+24(FP), CX
	MOVQ out+32(FP), DI
	PREPARE
	FIRST_ROWS(ROW_BYTES)

group:
	ROW_POINTERS(ROW_BYTES)
	CLEAR

loop:
	STEP
	ADDQ $32, AX
	CMPQ AX, R8
	JLT  loop

	MOVQ dim+16(FP), AX
	CMPQ AX, R8
	JEQ  reduce
	LAST

reduce:
	REDUCE
	STORE_GROUP
