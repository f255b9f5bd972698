//go:build !noasm

#include "textflag.h"

// The lanes 0..7 whose number has bit 0, 1, 2 set.
DATA bit0<>+0x00(SB)/8, $0xffffffff00000000
DATA bit0<>+0x08(SB)/8, $0xffffffff00000000
DATA bit0<>+0x10(SB)/8, $0xffffffff00000000
DATA bit0<>+0x18(SB)/8, $0xffffffff00000000
GLOBL bit0<>(SB), RODATA|NOPTR, $32
DATA bit1<>+0x00(SB)/8, $0
DATA bit1<>+0x08(SB)/8, $-1
DATA bit1<>+0x10(SB)/8, $0
DATA bit1<>+0x18(SB)/8, $-1
GLOBL bit1<>(SB), RODATA|NOPTR, $32
DATA bit2<>+0x00(SB)/8, $0
DATA bit2<>+0x08(SB)/8, $0
DATA bit2<>+0x10(SB)/8, $-1
DATA bit2<>+0x18(SB)/8, $-1
GLOBL bit2<>(SB), RODATA|NOPTR, $32

DATA signless<>+0(SB)/4, $0x7fffffff
GLOBL signless<>(SB), RODATA|NOPTR, $4
DATA steps<>+0(SB)/4, $0x41fc0000 // 31.5
GLOBL steps<>(SB), RODATA|NOPTR, $4
DATA round<>+0(SB)/4, $0x3f000000 // 0.5
GLOBL round<>(SB), RODATA|NOPTR, $4
DATA top<>+0(SB)/4, $0x427c0000 // 63
GLOBL top<>(SB), RODATA|NOPTR, $4

// QUANTIZE turns values into the integers 0..63, in the order of the reference.
#define QUANTIZE(values) \
	VDIVPS     Y15, values, values \
	VMULPS     Y14, values, values \
	VADDPS     Y13, values, values \
	VMAXPS     Y11, values, values \
	VMINPS     Y12, values, values \
	VCVTTPS2DQ values, values

// func signTablesAVX2(query *float32, tables int, lut *byte, widest float32)
//
//	SI        query, from the table on that is next
//	CX        tables left
//	DI        lut
//	Y0..Y3    an element each of the table's four, in every lane; then twice that
//	Y4, Y5    values of the entries 0..7 and 8..15
//	Y6        scratch
//	Y7        all bits but the sign
//	Y8..Y10   lanes with bit 0, 1, 2 set
//	Y11..Y15  0, 63, 0.5, 31.5, widest
TEXT ·signTablesAVX2(SB), NOSPLIT, $0-28
	MOVQ         query+0(FP), SI
	MOVQ         tables+8(FP), CX
	MOVQ         lut+16(FP), DI
	VBROADCASTSS widest+24(FP), Y15
	VBROADCASTSS steps<>(SB), Y14
	VBROADCASTSS round<>(SB), Y13
	VBROADCASTSS top<>(SB), Y12
	VXORPS       Y11, Y11, Y11
	VMOVUPS      bit0<>(SB), Y8
	VMOVUPS      bit1<>(SB), Y9
	VMOVUPS      bit2<>(SB), Y10
	VBROADCASTSS signless<>(SB), Y7

table:
	VBROADCASTSS 0(SI), Y0
	VBROADCASTSS 4(SI), Y1
	VBROADCASTSS 8(SI), Y2
	VBROADCASTSS 12(SI), Y3

	// Entry 0: the sum of magnitudes less the sum.
	VANDPS Y7, Y0, Y4
	VANDPS Y7, Y1, Y6
	VADDPS Y6, Y4, Y4
	VANDPS Y7, Y2, Y6
	VADDPS Y6, Y4, Y4
	VANDPS Y7, Y3, Y6
	VADDPS Y6, Y4, Y4
	VADDPS Y1, Y0, Y6
	VADDPS Y2, Y6, Y6
	VADDPS Y3, Y6, Y6
	VSUBPS Y6, Y4, Y4

	// Twice an element more where its bit is set.
	VADDPS Y0, Y0, Y0
	VADDPS Y1, Y1, Y1
	VADDPS Y2, Y2, Y2
	VADDPS Y3, Y3, Y3
	VANDPS Y8, Y0, Y0
	VANDPS Y9, Y1, Y1
	VANDPS Y10, Y2, Y2
	VADDPS Y0, Y4, Y4
	VADDPS Y1, Y4, Y4
	VADDPS Y2, Y4, Y4
	VADDPS Y3, Y4, Y5

	QUANTIZE(Y4)
	QUANTIZE(Y5)
	VPACKUSDW    Y5, Y4, Y4
	VPERMQ       $0xd8, Y4, Y4 // packing works in each half for itself
	VEXTRACTI128 $1, Y4, X5
	VPACKUSWB    X5, X4, X4
	VMOVDQU      X4, (DI)
	ADDQ         $16, SI
	ADDQ         $16, DI
	DECQ         CX
	JNZ          table
	VZEROUPPER
	RET
