//go:build !noasm

#include "textflag.h"

// MULTIPLY adds the products of one element of a centroid with the 32 rows of the panel.
#define MULTIPLY(at, scratch, low, high) \
	VBROADCASTSS at, scratch       \
	VFMADD231PS  Z24, scratch, low \
	VFMADD231PS  Z25, scratch, high

// COMPARE makes a centroid the best of the rows that it is strictly nearest to, and moves to the
// next one.
#define COMPARE(low, high) \
	VBROADCASTSS (R8), Z24         \
	VSUBPS       low, Z24, low     \
	VSUBPS       high, Z24, high   \
	VCMPPS       $0x11, Z28, low, K1  \
	VCMPPS       $0x11, Z29, high, K2 \
	VMOVAPS      low, K1, Z28      \
	VMOVAPS      high, K2, Z29     \
	VPBROADCASTD R9, K1, Z30       \
	VPBROADCASTD R9, K2, Z31       \
	ADDQ         $4, R8            \
	INCL         R9

// func nearestAVX512(panel *float32, dim int, centroids, halfNorms *float32, first int, best *float32, pick *uint32)
//
// A tile of 12 centroids by 32 rows in 24 sums.
//
//	SI                  panel, from the element on that is next
//	CX                  elements left
//	BX                  bytes of a centroid
//	R10, R11, R12, R13  centroids 0, 3, 6, 9, from the element on that is next
//	R8                  half norm of the centroid that is next
//	R9                  its number
//	Z0..Z23             sums: two vectors a centroid
//	Z24, Z25            an element of 32 rows
//	Z26, Z27            an element of a centroid
//	Z28, Z29            best
//	Z30, Z31            pick
TEXT ·nearestAVX512(SB), NOSPLIT, $0-56
	MOVQ panel+0(FP), SI
	MOVQ dim+8(FP), CX
	MOVQ centroids+16(FP), R10
	MOVQ halfNorms+24(FP), R8
	MOVQ first+32(FP), R9
	LEAQ (CX*4), BX
	LEAQ (BX)(BX*2), AX
	LEAQ (R10)(AX*1), R11
	LEAQ (R11)(AX*1), R12
	LEAQ (R12)(AX*1), R13
	VPXORD Z0, Z0, Z0
	VPXORD Z1, Z1, Z1
	VPXORD Z2, Z2, Z2
	VPXORD Z3, Z3, Z3
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	VPXORD Z6, Z6, Z6
	VPXORD Z7, Z7, Z7
	VPXORD Z8, Z8, Z8
	VPXORD Z9, Z9, Z9
	VPXORD Z10, Z10, Z10
	VPXORD Z11, Z11, Z11
	VPXORD Z12, Z12, Z12
	VPXORD Z13, Z13, Z13
	VPXORD Z14, Z14, Z14
	VPXORD Z15, Z15, Z15
	VPXORD Z16, Z16, Z16
	VPXORD Z17, Z17, Z17
	VPXORD Z18, Z18, Z18
	VPXORD Z19, Z19, Z19
	VPXORD Z20, Z20, Z20
	VPXORD Z21, Z21, Z21
	VPXORD Z22, Z22, Z22
	VPXORD Z23, Z23, Z23

loop:
	VMOVUPS (SI), Z24
	VMOVUPS 64(SI), Z25
	MULTIPLY((R10), Z26, Z0, Z1)
	MULTIPLY((R10)(BX*1), Z27, Z2, Z3)
	MULTIPLY((R10)(BX*2), Z26, Z4, Z5)
	MULTIPLY((R11), Z27, Z6, Z7)
	MULTIPLY((R11)(BX*1), Z26, Z8, Z9)
	MULTIPLY((R11)(BX*2), Z27, Z10, Z11)
	MULTIPLY((R12), Z26, Z12, Z13)
	MULTIPLY((R12)(BX*1), Z27, Z14, Z15)
	MULTIPLY((R12)(BX*2), Z26, Z16, Z17)
	MULTIPLY((R13), Z27, Z18, Z19)
	MULTIPLY((R13)(BX*1), Z26, Z20, Z21)
	MULTIPLY((R13)(BX*2), Z27, Z22, Z23)
	ADDQ    $4, R10
	ADDQ    $4, R11
	ADDQ    $4, R12
	ADDQ    $4, R13
	ADDQ    $128, SI
	DECQ    CX
	JNZ     loop

	MOVQ      best+40(FP), DI
	MOVQ      pick+48(FP), DX
	VMOVUPS   (DI), Z28
	VMOVUPS   64(DI), Z29
	VMOVDQU32 (DX), Z30
	VMOVDQU32 64(DX), Z31
	COMPARE(Z0, Z1)
	COMPARE(Z2, Z3)
	COMPARE(Z4, Z5)
	COMPARE(Z6, Z7)
	COMPARE(Z8, Z9)
	COMPARE(Z10, Z11)
	COMPARE(Z12, Z13)
	COMPARE(Z14, Z15)
	COMPARE(Z16, Z17)
	COMPARE(Z18, Z19)
	COMPARE(Z20, Z21)
	COMPARE(Z22, Z23)
	VMOVUPS   Z28, (DI)
	VMOVUPS   Z29, 64(DI)
	VMOVDQU32 Z30, (DX)
	VMOVDQU32 Z31, 64(DX)
	VZEROUPPER
	RET
