//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"

// Factors of a butterfly inside a vector: 1 in its upper elements, -1 in its lower ones, for
// strides of 1 and 2.
DATA stride1<>+0x00(SB)/8, $0xbf8000003f800000
DATA stride1<>+0x08(SB)/8, $0xbf8000003f800000
GLOBL stride1<>(SB), RODATA|NOPTR, $16
DATA stride2<>+0x00(SB)/8, $0x3f8000003f800000
DATA stride2<>+0x08(SB)/8, $0xbf800000bf800000
GLOBL stride2<>(SB), RODATA|NOPTR, $16

// FLIP_AND_WITHIN loads the next 4 elements, multiplies them with their signs and does the strides
// 1 and 2. Each element is added to the other one of its pair, times 1 or -1: a product that
// fusing does not round differently.
#define FLIP_AND_WITHIN(v, number) \
	VLD1.P 16(R6), [v.S4]           \
	VLD1.P 16(R1), [V12.S4]         \
	FMUL(12, number, number)        \
	VREV64 v.S4, V12.S4             \
	VFMLA  V30.S4, v.S4, V12.S4     \
	VEXT   $8, V12.B16, V12.B16, v.B16 \
	VFMLA  V31.S4, V12.S4, v.S4

// BUTTERFLY leaves a + b in sum and a - b in b; a is free then.
#define BUTTERFLY(a, b, sum) \
	FADD(b, a, sum) \
	FSUB(b, a, b)

// THREE_STRIDES transforms V0..V7, one element each, and leaves them in the order V5, V6, V8, V0,
// V1, V2, V4, V7.
#define THREE_STRIDES \
	BUTTERFLY(0, 1, 8) \
	BUTTERFLY(2, 3, 0) \
	BUTTERFLY(4, 5, 2) \
	BUTTERFLY(6, 7, 4) \
	BUTTERFLY(8, 0, 6) \
	BUTTERFLY(1, 3, 8) \
	BUTTERFLY(2, 4, 1) \
	BUTTERFLY(5, 7, 2) \
	BUTTERFLY(6, 1, 5) \
	BUTTERFLY(8, 2, 6) \
	BUTTERFLY(0, 4, 8) \
	BUTTERFLY(3, 7, 0)

#define SCALE_AND_STORE(v, number, at) \
	FMUL(29, number, number) \
	VST1.P [v.S4], 16(at)

// The passes share
//
//	R0       group of elements that are transformed together
//	R1       end of x
//	R2       bytes of a stride
//	R3       bytes of the stride left
//	R6..R13  elements, a stride apart
//	V29      scale
#define LOAD_PASS \
	MOVD  x+0(FP), R0       \
	MOVD  n+8(FP), R1       \
	MOVD  stride+16(FP), R2 \
	MOVWU scale+24(FP), R3  \
	VDUP  R3, V29.S4        \
	LSL   $2, R2, R2        \
	ADD   R1<<2, R0, R1

// TWO_GROUPS does one stride, FOUR_GROUPS two of them, and both return.
#define TWO_GROUPS(group, loop) \
group:                         \
	MOVD R0, R6                \
	ADD  R2, R6, R7            \
	MOVD R2, R3                \
loop:                          \
	VLD1 (R6), [V0.S4]         \
	VLD1 (R7), [V1.S4]         \
	BUTTERFLY(0, 1, 4)         \
	SCALE_AND_STORE(V4, 4, R6) \
	SCALE_AND_STORE(V1, 1, R7) \
	SUBS $16, R3               \
	BNE  loop                  \
	MOVD R7, R0                \
	CMP  R1, R0                \
	BLT  group                 \
	RET

#define FOUR_GROUPS(group, loop) \
group:                         \
	MOVD R0, R6                \
	ADD  R2, R6, R7            \
	ADD  R2, R7, R8            \
	ADD  R2, R8, R9            \
	MOVD R2, R3                \
loop:                          \
	VLD1 (R6), [V0.S4]         \
	VLD1 (R7), [V1.S4]         \
	VLD1 (R8), [V2.S4]         \
	VLD1 (R9), [V3.S4]         \
	BUTTERFLY(0, 1, 4)         \
	BUTTERFLY(2, 3, 5)         \
	BUTTERFLY(4, 5, 6)         \
	BUTTERFLY(1, 3, 7)         \
	SCALE_AND_STORE(V6, 6, R6) \
	SCALE_AND_STORE(V7, 7, R7) \
	SCALE_AND_STORE(V5, 5, R8) \
	SCALE_AND_STORE(V3, 3, R9) \
	SUBS $16, R3               \
	BNE  loop                  \
	MOVD R9, R0                \
	CMP  R1, R0                \
	BLT  group                 \
	RET

// func rotateFirst(x, signs *float32, n int, scale float32)
//
// It multiplies x with signs, does the strides 1 to 64, or to 32 if n is 64, and scales.
//
//	R1        signs, not done
//	R5        elements left
//	R6, R7    x, not done, to load and to store
//	V0..V12   elements
//	V29       scale
//	V30, V31  factors of the strides 1, 2
TEXT ·rotateFirst(SB), NOSPLIT, $0-28
	MOVD  x+0(FP), R0
	MOVD  signs+8(FP), R1
	MOVD  n+16(FP), R5
	MOVWU scale+24(FP), R3
	VDUP  R3, V29.S4
	MOVD  $stride1<>(SB), R3
	VLD1  (R3), [V30.S4]
	MOVD  $stride2<>(SB), R3
	VLD1  (R3), [V31.S4]
	MOVD  R0, R6
	MOVD  R0, R7

loop:
	FLIP_AND_WITHIN(V0, 0)
	FLIP_AND_WITHIN(V1, 1)
	FLIP_AND_WITHIN(V2, 2)
	FLIP_AND_WITHIN(V3, 3)
	FLIP_AND_WITHIN(V4, 4)
	FLIP_AND_WITHIN(V5, 5)
	FLIP_AND_WITHIN(V6, 6)
	FLIP_AND_WITHIN(V7, 7)
	THREE_STRIDES
	VST1.P [V5.S4], 16(R7)
	VST1.P [V6.S4], 16(R7)
	VST1.P [V8.S4], 16(R7)
	VST1.P [V0.S4], 16(R7)
	VST1.P [V1.S4], 16(R7)
	VST1.P [V2.S4], 16(R7)
	VST1.P [V4.S4], 16(R7)
	VST1.P [V7.S4], 16(R7)
	SUBS   $32, R5
	BNE    loop

	// Eight vectors had the strides 1 to 16. R7 is the end of x.
	MOVD R7, R1
	MOVD $128, R2
	SUB  R0, R1, R3
	CMP  $256, R3
	BEQ  two
	FOUR_GROUPS(four, fourLoop)

	TWO_GROUPS(two, twoLoop)

// func rotateEight(x *float32, n, stride int, scale float32)
//
// Three strides.
TEXT ·rotateEight(SB), NOSPLIT, $0-28
	LOAD_PASS

group:
	MOVD R0, R6
	ADD  R2, R6, R7
	ADD  R2, R7, R8
	ADD  R2, R8, R9
	ADD  R2, R9, R10
	ADD  R2, R10, R11
	ADD  R2, R11, R12
	ADD  R2, R12, R13
	MOVD R2, R3

loop:
	VLD1 (R6), [V0.S4]
	VLD1 (R7), [V1.S4]
	VLD1 (R8), [V2.S4]
	VLD1 (R9), [V3.S4]
	VLD1 (R10), [V4.S4]
	VLD1 (R11), [V5.S4]
	VLD1 (R12), [V6.S4]
	VLD1 (R13), [V7.S4]
	THREE_STRIDES
	SCALE_AND_STORE(V5, 5, R6)
	SCALE_AND_STORE(V6, 6, R7)
	SCALE_AND_STORE(V8, 8, R8)
	SCALE_AND_STORE(V0, 0, R9)
	SCALE_AND_STORE(V1, 1, R10)
	SCALE_AND_STORE(V2, 2, R11)
	SCALE_AND_STORE(V4, 4, R12)
	SCALE_AND_STORE(V7, 7, R13)
	SUBS $16, R3
	BNE  loop
	MOVD R13, R0
	CMP  R1, R0
	BLT  group
	RET

// func rotateFour(x *float32, n, stride int, scale float32)
//
// Two strides.
TEXT ·rotateFour(SB), NOSPLIT, $0-28
	LOAD_PASS
	FOUR_GROUPS(group, loop)

// func rotateTwo(x *float32, n, stride int, scale float32)
//
// One stride.
TEXT ·rotateTwo(SB), NOSPLIT, $0-28
	LOAD_PASS
	TWO_GROUPS(group, loop)

// func rotateFlip(x, signs *float32, n int)
//
// It multiplies x with signs.
TEXT ·rotateFlip(SB), NOSPLIT, $0-24
	MOVD x+0(FP), R0
	MOVD signs+8(FP), R1
	MOVD n+16(FP), R2

loop:
	VLD1   (R0), [V0.S4, V1.S4, V2.S4, V3.S4]
	VLD1.P 64(R1), [V4.S4, V5.S4, V6.S4, V7.S4]
	FMUL(4, 0, 0)
	FMUL(5, 1, 1)
	FMUL(6, 2, 2)
	FMUL(7, 3, 3)
	VST1.P [V0.S4, V1.S4, V2.S4, V3.S4], 64(R0)
	SUBS   $16, R2
	BNE    loop
	RET

// func rotateMix(x *float32, half int)
//
// It turns the pairs of elements half apart by π/4.
TEXT ·rotateMix(SB), NOSPLIT, $0-16
	MOVD x+0(FP), R6
	MOVD half+8(FP), R2
	ADD  R2<<2, R6, R7
	MOVD $0x3f3504f3, R3 // 1/√2
	VDUP R3, V29.S4

loop:
	VLD1 (R6), [V0.S4, V1.S4]
	VLD1 (R7), [V2.S4, V3.S4]
	BUTTERFLY(0, 2, 4)
	BUTTERFLY(1, 3, 5)
	SCALE_AND_STORE(V4, 4, R6)
	SCALE_AND_STORE(V5, 5, R6)
	SCALE_AND_STORE(V2, 2, R7)
	SCALE_AND_STORE(V3, 3, R7)
	SUBS $8, R2
	BNE  loop
	RET
