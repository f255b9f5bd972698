//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"

// MULTIPLY adds the products of one element of a centroid with the 8 rows of the panel.
#define MULTIPLY(centroid, low, high) \
	VLD1R.P 4(centroid), [V18.S4]   \
	VFMLA   V16.S4, V18.S4, low.S4  \
	VFMLA   V17.S4, V18.S4, high.S4

// COMPARE makes a centroid the best of the rows that it is strictly nearest to, and moves to the
// next one. Its sums are in the vectors with the numbers low and high, and in l and h.
#define COMPARE(low, high, l, h) \
	VLD1R.P 4(R3), [V18.S4]          \
	VDUP    R4, V19.S4               \
	ADD     $1, R4                   \
	FSUB(low, 18, low)               \
	FSUB(high, 18, high)             \
	FCMGT(low, 20, 24)               \
	FCMGT(high, 21, 25)              \
	VBIT    V24.B16, l.B16, V20.B16   \
	VBIT    V25.B16, h.B16, V21.B16   \
	VBIT    V24.B16, V19.B16, V22.B16 \
	VBIT    V25.B16, V19.B16, V23.B16

// func nearestNEON(panel *float32, dim int, centroids, halfNorms *float32, first int, best *float32, pick *uint32)
//
// A tile of 8 centroids by 8 rows in 16 sums.
//
//	R0        panel, from the element on that is next
//	R1        elements left
//	R3        half norm of the centroid that is next
//	R4        its number
//	R8..R15   centroids, from the element on that is next
//	V0..V15   sums: two vectors a centroid
//	V16, V17  an element of 8 rows
//	V18       an element of a centroid; its half norm
//	V19       its number
//	V20, V21  best
//	V22, V23  pick
//	V24, V25  lanes where a centroid is nearer
TEXT ·nearestNEON(SB), NOSPLIT, $0-56
	MOVD panel+0(FP), R0
	MOVD dim+8(FP), R1
	MOVD centroids+16(FP), R8
	MOVD halfNorms+24(FP), R3
	MOVD first+32(FP), R4
	MOVD best+40(FP), R5
	MOVD pick+48(FP), R6
	LSL  $2, R1, R2
	ADD  R2, R8, R9
	ADD  R2, R9, R10
	ADD  R2, R10, R11
	ADD  R2, R11, R12
	ADD  R2, R12, R13
	ADD  R2, R13, R14
	ADD  R2, R14, R15
	VEOR V0.B16, V0.B16, V0.B16
	VEOR V1.B16, V1.B16, V1.B16
	VEOR V2.B16, V2.B16, V2.B16
	VEOR V3.B16, V3.B16, V3.B16
	VEOR V4.B16, V4.B16, V4.B16
	VEOR V5.B16, V5.B16, V5.B16
	VEOR V6.B16, V6.B16, V6.B16
	VEOR V7.B16, V7.B16, V7.B16
	VEOR V8.B16, V8.B16, V8.B16
	VEOR V9.B16, V9.B16, V9.B16
	VEOR V10.B16, V10.B16, V10.B16
	VEOR V11.B16, V11.B16, V11.B16
	VEOR V12.B16, V12.B16, V12.B16
	VEOR V13.B16, V13.B16, V13.B16
	VEOR V14.B16, V14.B16, V14.B16
	VEOR V15.B16, V15.B16, V15.B16

loop:
	VLD1.P 32(R0), [V16.S4, V17.S4]
	MULTIPLY(R8, V0, V1)
	MULTIPLY(R9, V2, V3)
	MULTIPLY(R10, V4, V5)
	MULTIPLY(R11, V6, V7)
	MULTIPLY(R12, V8, V9)
	MULTIPLY(R13, V10, V11)
	MULTIPLY(R14, V12, V13)
	MULTIPLY(R15, V14, V15)
	SUBS $1, R1
	BNE  loop

	VLD1 (R5), [V20.S4, V21.S4]
	VLD1 (R6), [V22.S4, V23.S4]
	COMPARE(0, 1, V0, V1)
	COMPARE(2, 3, V2, V3)
	COMPARE(4, 5, V4, V5)
	COMPARE(6, 7, V6, V7)
	COMPARE(8, 9, V8, V9)
	COMPARE(10, 11, V10, V11)
	COMPARE(12, 13, V12, V13)
	COMPARE(14, 15, V14, V15)
	VST1 [V20.S4, V21.S4], (R5)
	VST1 [V22.S4, V23.S4], (R6)
	RET
