//go:build !noasm

#include "textflag.h"
#include "rows_amd64.h"

// ROW_BYTES are those to prefetch: what follows them up to the next row is not used.
#define ROW_BYTES dim+16(FP)

// STEP adds the products of 64 elements of four rows.
#define STEP \
	VMOVDQU64 (DX)(AX*1), Z4       \
	VPXORQ    (R10)(AX*1), Z16, Z5 \
	VPXORQ    (R11)(AX*1), Z16, Z6 \
	VPXORQ    (R12)(AX*1), Z16, Z7 \
	VPXORQ    (R13)(AX*1), Z16, Z8 \
	VPDPBUSD  Z4, Z5, Z0           \
	VPDPBUSD  Z4, Z6, Z1           \
	VPDPBUSD  Z4, Z7, Z2           \
	VPDPBUSD  Z4, Z8, Z3

// func dot8VNNI(query *int8, rows *byte, dim, stride int, which *uint32, count int, out *int32)
//
// VPDPBUSD multiplies unsigned bytes with signed ones and does not saturate. Each byte x of a row
// is taken as x + 128, which is x with its top bit flipped, and 128 times the sum of query is
// taken off in the end; the sums may wrap on the way, for the result fits.
//
// Registers as in rows_amd64.h, and
//
//	Z0, Z1, Z2, Z3  sums of the four rows
//	Z4              query
//	Z5..Z8          rows + 128
//	X15             128 times the sum of query, in each lane
//	Z16             128 in every byte
//	K1              the bytes of a row's last, partial vector
TEXT ·dot8VNNI(SB), NOSPLIT, $0-56
	MOVQ query+0(FP), DX
	MOVQ rows+8(FP), SI
	MOVQ dim+16(FP), R8
	MOVQ stride+24(FP), BX
	MOVQ which+32(FP), R9
	MOVQ count+40(FP), CX
	MOVQ out+48(FP), DI

	MOVL         $0x80808080, AX
	VPBROADCASTD AX, Z16
	MOVQ         R8, R10
	ANDQ         $63, R10
	MOVQ         $-1, AX
	BZHIQ        R10, AX, AX
	KMOVQ        AX, K1
	ANDQ         $~63, R8

	VPXOR        X0, X0, X0
	VMOVDQU8.Z   (DX)(R8*1), K1, Z4
	VPDPBUSD     Z4, Z16, Z0
	XORQ         AX, AX

offset:
	CMPQ     AX, R8
	JGE      offset_sum
	VPDPBUSD (DX)(AX*1), Z16, Z0
	ADDQ     $64, AX
	JMP      offset

offset_sum:
	VEXTRACTI64X4 $1, Z0, Y1
	VPADDD        Y1, Y0, Y0
	VEXTRACTI128  $1, Y0, X1
	VPADDD        X1, X0, X0
	VPHADDD       X0, X0, X0
	VPHADDD       X0, X0, X15
	FIRST_ROWS(ROW_BYTES)

group:
	ROW_POINTERS(ROW_BYTES)
	VPXOR X0, X0, X0
	VPXOR X1, X1, X1
	VPXOR X2, X2, X2
	VPXOR X3, X3, X3
	XORQ  AX, AX
	CMPQ  AX, R8
	JGE   tail

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
	CMPQ AX, dim+16(FP)
	JGE  reduce

	// Bytes past the end are not read; those of query are 0, so that the others do not matter.
	VMOVDQU8.Z (DX)(AX*1), K1, Z4
	VMOVDQU8.Z (R10)(AX*1), K1, Z5
	VMOVDQU8.Z (R11)(AX*1), K1, Z6
	VMOVDQU8.Z (R12)(AX*1), K1, Z7
	VMOVDQU8.Z (R13)(AX*1), K1, Z8
	VPXORQ     Z16, Z5, Z5
	VPXORQ     Z16, Z6, Z6
	VPXORQ     Z16, Z7, Z7
	VPXORQ     Z16, Z8, Z8
	VPDPBUSD   Z4, Z5, Z0
	VPDPBUSD   Z4, Z6, Z1
	VPDPBUSD   Z4, Z7, Z2
	VPDPBUSD   Z4, Z8, Z3

reduce:
	VEXTRACTI64X4 $1, Z0, Y4
	VEXTRACTI64X4 $1, Z1, Y5
	VEXTRACTI64X4 $1, Z2, Y6
	VEXTRACTI64X4 $1, Z3, Y7
	VPADDD        Y4, Y0, Y0
	VPADDD        Y5, Y1, Y1
	VPADDD        Y6, Y2, Y2
	VPADDD        Y7, Y3, Y3
	VPHADDD       Y1, Y0, Y0
	VPHADDD       Y3, Y2, Y2
	VPHADDD       Y2, Y0, Y0
	VEXTRACTI128  $1, Y0, X1
	VPADDD        X1, X0, X0
	VPSUBD        X15, X0, X0
	STORE_GROUP
