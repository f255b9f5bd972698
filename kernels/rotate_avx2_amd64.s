//go:build !noasm

#include "textflag.h"

// Factors of a butterfly inside a vector: 1 in its upper elements, -1 in its lower ones, for
// strides of 1, 2 and 4.
DATA stride1<>+0x00(SB)/8, $0xbf8000003f800000
DATA stride1<>+0x08(SB)/8, $0xbf8000003f800000
DATA stride1<>+0x10(SB)/8, $0xbf8000003f800000
DATA stride1<>+0x18(SB)/8, $0xbf8000003f800000
GLOBL stride1<>(SB), RODATA|NOPTR, $32
DATA stride2<>+0x00(SB)/8, $0x3f8000003f800000
DATA stride2<>+0x08(SB)/8, $0xbf800000bf800000
DATA stride2<>+0x10(SB)/8, $0x3f8000003f800000
DATA stride2<>+0x18(SB)/8, $0xbf800000bf800000
GLOBL stride2<>(SB), RODATA|NOPTR, $32
DATA stride4<>+0x00(SB)/8, $0x3f8000003f800000
DATA stride4<>+0x08(SB)/8, $0x3f8000003f800000
DATA stride4<>+0x10(SB)/8, $0xbf800000bf800000
DATA stride4<>+0x18(SB)/8, $0xbf800000bf800000
GLOBL stride4<>(SB), RODATA|NOPTR, $32

DATA rootHalf<>+0(SB)/4, $0x3f3504f3 // 1/√2
GLOBL rootHalf<>(SB), RODATA|NOPTR, $4

// FLIP_AND_WITHIN loads the next 8 elements, multiplies them with their signs and does the strides
// 1, 2 and 4. Each element is added to the other one of its pair, times 1 or -1: a product that
// fusing does not round differently.
#define FLIP_AND_WITHIN(at, y) \
	VMOVUPS     at(SI), Y12       \
	VMULPS      at(DX), Y12, Y12  \
	VPERMILPS   $0xb1, Y12, y     \
	VFMADD231PS Y13, Y12, y       \
	VPERMILPS   $0x4e, y, Y12     \
	VFMADD231PS Y14, y, Y12       \
	VPERM2F128  $0x01, Y12, Y12, y \
	VFMADD231PS Y15, Y12, y

// BUTTERFLY leaves a + b in sum and a - b in b; a is free then.
#define BUTTERFLY(a, b, sum) \
	VADDPS b, a, sum \
	VSUBPS b, a, b

// THREE_STRIDES transforms Y0..Y7, one element each, and leaves them in the order Y5, Y6, Y8, Y0,
// Y1, Y2, Y4, Y7.
#define THREE_STRIDES \
	BUTTERFLY(Y0, Y1, Y8) \
	BUTTERFLY(Y2, Y3, Y0) \
	BUTTERFLY(Y4, Y5, Y2) \
	BUTTERFLY(Y6, Y7, Y4) \
	BUTTERFLY(Y8, Y0, Y6) \
	BUTTERFLY(Y1, Y3, Y8) \
	BUTTERFLY(Y2, Y4, Y1) \
	BUTTERFLY(Y5, Y7, Y2) \
	BUTTERFLY(Y6, Y1, Y5) \
	BUTTERFLY(Y8, Y2, Y6) \
	BUTTERFLY(Y0, Y4, Y8) \
	BUTTERFLY(Y3, Y7, Y0)

// LOAD_PASS begins a later pass. Its registers:
//
//	SI  group of elements that are transformed together
//	CX  its end, or the end of x
//	R8  bytes of a stride
//	R9  three times that
//	R10 bytes of the stride done
//	R11, R12  elements
//	Y15 scale
#define LOAD_PASS \
	MOVQ         x+0(FP), SI      \
	MOVQ         n+8(FP), CX      \
	MOVQ         stride+16(FP), R8 \
	VBROADCASTSS scale+24(FP), Y15 \
	LEAQ         (SI)(CX*4), CX   \
	SHLQ         $2, R8           \
	LEAQ         (R8)(R8*2), R9

#define SCALE_AND_STORE(y, scale, at) \
	VMULPS  scale, y, y \
	VMOVUPS y, at

// SIXTY_FOUR multiplies the 64 elements from the given byte on with their signs and does the strides
// 1 to 32.
#define SIXTY_FOUR(at) \
	FLIP_AND_WITHIN(at+0, Y0)   \
	FLIP_AND_WITHIN(at+32, Y1)  \
	FLIP_AND_WITHIN(at+64, Y2)  \
	FLIP_AND_WITHIN(at+96, Y3)  \
	FLIP_AND_WITHIN(at+128, Y4) \
	FLIP_AND_WITHIN(at+160, Y5) \
	FLIP_AND_WITHIN(at+192, Y6) \
	FLIP_AND_WITHIN(at+224, Y7) \
	THREE_STRIDES

// WITH_FIRST does the stride 64 with 8 elements of the first 64 of a group and 8 of the second.
#define WITH_FIRST(at, y) \
	VMOVUPS at(SI), Y9               \
	BUTTERFLY(Y9, y, Y10)            \
	SCALE_AND_STORE(Y10, Y3, at(SI)) \
	SCALE_AND_STORE(y, Y3, 256+at(SI))

// func rotateFirst(x, signs *float32, n int, scale float32)
//
// It multiplies x with signs, does the strides 1 to 64, or to 32 if n is 64, and scales.
//
//	SI        x, not done
//	DX        signs, likewise
//	CX        elements left
//	Y0..Y12   elements
//	Y3        scale, where there are no elements in it
//	Y13..Y15  factors of the strides 1, 2, 4
TEXT ·rotateFirst(SB), NOSPLIT, $0-28
	MOVQ    x+0(FP), SI
	MOVQ    signs+8(FP), DX
	MOVQ    n+16(FP), CX
	VMOVUPS stride1<>(SB), Y13
	VMOVUPS stride2<>(SB), Y14
	VMOVUPS stride4<>(SB), Y15
	CMPQ    CX, $64
	JEQ     alone

loop:
	SIXTY_FOUR(0)
	VMOVUPS      Y5, (SI)
	VMOVUPS      Y6, 32(SI)
	VMOVUPS      Y8, 64(SI)
	VMOVUPS      Y0, 96(SI)
	VMOVUPS      Y1, 128(SI)
	VMOVUPS      Y2, 160(SI)
	VMOVUPS      Y4, 192(SI)
	VMOVUPS      Y7, 224(SI)
	SIXTY_FOUR(256)
	VBROADCASTSS scale+24(FP), Y3
	WITH_FIRST(0, Y5)
	WITH_FIRST(32, Y6)
	WITH_FIRST(64, Y8)
	WITH_FIRST(96, Y0)
	WITH_FIRST(128, Y1)
	WITH_FIRST(160, Y2)
	WITH_FIRST(192, Y4)
	WITH_FIRST(224, Y7)
	ADDQ         $512, SI
	ADDQ         $512, DX
	SUBQ         $128, CX
	JNZ          loop
	VZEROUPPER
	RET

alone:
	SIXTY_FOUR(0)
	VBROADCASTSS scale+24(FP), Y3
	SCALE_AND_STORE(Y5, Y3, (SI))
	SCALE_AND_STORE(Y6, Y3, 32(SI))
	SCALE_AND_STORE(Y8, Y3, 64(SI))
	SCALE_AND_STORE(Y0, Y3, 96(SI))
	SCALE_AND_STORE(Y1, Y3, 128(SI))
	SCALE_AND_STORE(Y2, Y3, 160(SI))
	SCALE_AND_STORE(Y4, Y3, 192(SI))
	SCALE_AND_STORE(Y7, Y3, 224(SI))
	VZEROUPPER
	RET

// func rotateEight(x *float32, n, stride int, scale float32)
//
// Three strides.
TEXT ·rotateEight(SB), NOSPLIT, $0-28
	LOAD_PASS

group:
	XORQ R10, R10

loop:
	LEAQ    (SI)(R10*1), R11
	LEAQ    (R11)(R8*4), R12
	VMOVUPS (R11), Y0
	VMOVUPS (R11)(R8*1), Y1
	VMOVUPS (R11)(R8*2), Y2
	VMOVUPS (R11)(R9*1), Y3
	VMOVUPS (R12), Y4
	VMOVUPS (R12)(R8*1), Y5
	VMOVUPS (R12)(R8*2), Y6
	VMOVUPS (R12)(R9*1), Y7
	THREE_STRIDES
	SCALE_AND_STORE(Y5, Y15, (R11))
	SCALE_AND_STORE(Y6, Y15, (R11)(R8*1))
	SCALE_AND_STORE(Y8, Y15, (R11)(R8*2))
	SCALE_AND_STORE(Y0, Y15, (R11)(R9*1))
	SCALE_AND_STORE(Y1, Y15, (R12))
	SCALE_AND_STORE(Y2, Y15, (R12)(R8*1))
	SCALE_AND_STORE(Y4, Y15, (R12)(R8*2))
	SCALE_AND_STORE(Y7, Y15, (R12)(R9*1))
	ADDQ    $32, R10
	CMPQ    R10, R8
	JLT     loop
	LEAQ    (SI)(R8*8), SI
	CMPQ    SI, CX
	JLT     group
	VZEROUPPER
	RET

// func rotateFour(x *float32, n, stride int, scale float32)
//
// Two strides.
TEXT ·rotateFour(SB), NOSPLIT, $0-28
	LOAD_PASS

group:
	XORQ R10, R10

loop:
	LEAQ    (SI)(R10*1), R11
	VMOVUPS (R11), Y0
	VMOVUPS (R11)(R8*1), Y1
	VMOVUPS (R11)(R8*2), Y2
	VMOVUPS (R11)(R9*1), Y3
	BUTTERFLY(Y0, Y1, Y4)
	BUTTERFLY(Y2, Y3, Y5)
	BUTTERFLY(Y4, Y5, Y6)
	BUTTERFLY(Y1, Y3, Y7)
	SCALE_AND_STORE(Y6, Y15, (R11))
	SCALE_AND_STORE(Y7, Y15, (R11)(R8*1))
	SCALE_AND_STORE(Y5, Y15, (R11)(R8*2))
	SCALE_AND_STORE(Y3, Y15, (R11)(R9*1))
	ADDQ    $32, R10
	CMPQ    R10, R8
	JLT     loop
	LEAQ    (SI)(R8*4), SI
	CMPQ    SI, CX
	JLT     group
	VZEROUPPER
	RET

// func rotateTwo(x *float32, n, stride int, scale float32)
//
// One stride.
TEXT ·rotateTwo(SB), NOSPLIT, $0-28
	LOAD_PASS

group:
	XORQ R10, R10

loop:
	LEAQ    (SI)(R10*1), R11
	VMOVUPS (R11), Y0
	VMOVUPS 32(R11), Y2
	VMOVUPS (R11)(R8*1), Y1
	VMOVUPS 32(R11)(R8*1), Y3
	BUTTERFLY(Y0, Y1, Y4)
	BUTTERFLY(Y2, Y3, Y5)
	SCALE_AND_STORE(Y4, Y15, (R11))
	SCALE_AND_STORE(Y5, Y15, 32(R11))
	SCALE_AND_STORE(Y1, Y15, (R11)(R8*1))
	SCALE_AND_STORE(Y3, Y15, 32(R11)(R8*1))
	ADDQ    $64, R10
	CMPQ    R10, R8
	JLT     loop
	LEAQ    (SI)(R8*2), SI
	CMPQ    SI, CX
	JLT     group
	VZEROUPPER
	RET

// func rotateFlip(x, signs *float32, n int)
//
// It multiplies x with signs.
TEXT ·rotateFlip(SB), NOSPLIT, $0-24
	MOVQ x+0(FP), SI
	MOVQ signs+8(FP), DX
	MOVQ n+16(FP), CX

loop:
	VMOVUPS (SI), Y0
	VMOVUPS 32(SI), Y1
	VMULPS  (DX), Y0, Y0
	VMULPS  32(DX), Y1, Y1
	VMOVUPS Y0, (SI)
	VMOVUPS Y1, 32(SI)
	ADDQ    $64, SI
	ADDQ    $64, DX
	SUBQ    $16, CX
	JNZ     loop
	VZEROUPPER
	RET

// func rotateMix(x *float32, half int)
//
// It turns the pairs of elements half apart by π/4.
TEXT ·rotateMix(SB), NOSPLIT, $0-16
	MOVQ         x+0(FP), SI
	MOVQ         half+8(FP), CX
	VBROADCASTSS rootHalf<>(SB), Y15
	LEAQ         (SI)(CX*4), DI

loop:
	VMOVUPS (SI), Y0
	VMOVUPS (DI), Y1
	BUTTERFLY(Y0, Y1, Y2)
	SCALE_AND_STORE(Y2, Y15, (SI))
	SCALE_AND_STORE(Y1, Y15, (DI))
	ADDQ    $32, SI
	ADDQ    $32, DI
	SUBQ    $8, CX
	JNZ     loop
	VZEROUPPER
	RET
