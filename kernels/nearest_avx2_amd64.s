//go:build !noasm

#include "textflag.h"

// MULTIPLY adds the products of one element of a centroid with the 16 rows of the panel.
#define MULTIPLY(at, scratch, low, high) \
	VBROADCASTSS at, scratch       \
	VFMADD231PS  Y12, scratch, low \
	VFMADD231PS  Y13, scratch, high

// COMPARE makes a centroid the best of the 8 rows that it is strictly nearest to, and moves to
// the next one. The register of its sums is free for its number then.
#define COMPARE(x, y) \
	VBROADCASTSS (R8), Y14          \
	VSUBPS       y, Y14, Y14        \
	VCMPPS       $0x11, Y12, Y14, Y15 \
	VBLENDVPS    Y15, Y14, Y12, Y12 \
	VMOVD        R9, x              \
	VPBROADCASTD x, y               \
	VBLENDVPS    Y15, y, Y13, Y13   \
	ADDQ         $4, R8             \
	INCL         R9

// func nearestAVX2(panel *float32, dim int, centroids, halfNorms *float32, first int, best *float32, pick *uint32)
//
// A tile of 6 centroids by 16 rows in 12 sums.
//
//	SI        panel, from the element on that is next
//	CX        elements left
//	BX        bytes of a centroid
//	R10, R11  centroids 0 and 3, from the element on that is next
//	R8        half norm of the centroid that is next
//	R9        its number
//	Y0..Y11   sums: two vectors a centroid
//	Y12, Y13  an element of 16 rows; then best and pick of 8 rows
//	Y14, Y15  scratch
TEXT ·nearestAVX2(SB), NOSPLIT, $0-56
	MOVQ panel+0(FP), SI
	MOVQ dim+8(FP), CX
	MOVQ centroids+16(FP), R10
	LEAQ (CX*4), BX
	LEAQ (BX)(BX*2), AX
	LEAQ (R10)(AX*1), R11
	VXORPS Y0, Y0, Y0
	VXORPS Y1, Y1, Y1
	VXORPS Y2, Y2, Y2
	VXORPS Y3, Y3, Y3
	VXORPS Y4, Y4, Y4
	VXORPS Y5, Y5, Y5
	VXORPS Y6, Y6, Y6
	VXORPS Y7, Y7, Y7
	VXORPS Y8, Y8, Y8
	VXORPS Y9, Y9, Y9
	VXORPS Y10, Y10, Y10
	VXORPS Y11, Y11, Y11

loop:
	VMOVUPS (SI), Y12
	VMOVUPS 32(SI), Y13
	MULTIPLY((R10), Y14, Y0, Y1)
	MULTIPLY((R10)(BX*1), Y15, Y2, Y3)
	MULTIPLY((R10)(BX*2), Y14, Y4, Y5)
	MULTIPLY((R11), Y15, Y6, Y7)
	MULTIPLY((R11)(BX*1), Y14, Y8, Y9)
	MULTIPLY((R11)(BX*2), Y15, Y10, Y11)
	ADDQ    $4, R10
	ADDQ    $4, R11
	ADDQ    $64, SI
	DECQ    CX
	JNZ     loop

	MOVQ best+40(FP), DI
	MOVQ pick+48(FP), DX
	MOVQ    halfNorms+24(FP), R8
	MOVQ    first+32(FP), R9
	VMOVUPS (DI), Y12
	VMOVDQU (DX), Y13
	COMPARE(X0, Y0)
	COMPARE(X2, Y2)
	COMPARE(X4, Y4)
	COMPARE(X6, Y6)
	COMPARE(X8, Y8)
	COMPARE(X10, Y10)
	VMOVUPS Y12, (DI)
	VMOVDQU Y13, (DX)
	MOVQ    halfNorms+24(FP), R8
	MOVQ    first+32(FP), R9
	VMOVUPS 32(DI), Y12
	VMOVDQU 32(DX), Y13
	COMPARE(X1, Y1)
	COMPARE(X3, Y3)
	COMPARE(X5, Y5)
	COMPARE(X7, Y7)
	COMPARE(X9, Y9)
	COMPARE(X11, Y11)
	VMOVUPS Y12, 32(DI)
	VMOVDQU Y13, 32(DX)
	VZEROUPPER
	RET
