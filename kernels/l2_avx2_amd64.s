//go:build !noasm

#include "textflag.h"
#include "rows_amd64.h"
#include "floats_avx2_amd64.h"

// STEP adds the squared differences of 8 elements of four rows.
#define STEP \
	VMOVUPS     (DX)(AX*1), Y4      \
	VSUBPS      (R10)(AX*1), Y4, Y5 \
	VSUBPS      (R11)(AX*1), Y4, Y6 \
	VSUBPS      (R12)(AX*1), Y4, Y7 \
	VSUBPS      (R13)(AX*1), Y4, Y8 \
	VFMADD231PS Y5, Y5, Y0          \
	VFMADD231PS Y6, Y6, Y1          \
	VFMADD231PS Y7, Y7, Y2          \
	VFMADD231PS Y8, Y8, Y3

// func l2AVX2(query, rows *float32, dim int, which *uint32, count int, out *float32)
//
// Registers as in rows_amd64.h, and
//
//	Y0, Y1, Y2, Y3  sums of the four rows
//	Y4              query
//	Y5..Y8          differences
//	Y15             the lanes of a row's last, partial vector
TEXT ·l2AVX2(SB), NOSPLIT, $0-48
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
	STEP
	ADDQ  $32, AX
	CMPQ  AX, R8
	JLT   ahead
	JMP   tail

loop:
	STEP
	ADDQ  $32, AX
	CMPQ  AX, R8
	JLT   loop

tail:
	CMPQ AX, BX
	JGE  reduce
	LOAD_TAIL
	VSUBPS      Y5, Y4, Y5
	VSUBPS      Y6, Y4, Y6
	VSUBPS      Y7, Y4, Y7
	VSUBPS      Y8, Y4, Y8
	VFMADD231PS Y5, Y5, Y0
	VFMADD231PS Y6, Y6, Y1
	VFMADD231PS Y7, Y7, Y2
	VFMADD231PS Y8, Y8, Y3

reduce:
	REDUCE_SUMS
	STORE_GROUP
