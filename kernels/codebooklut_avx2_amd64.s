//go:build !noasm

#include "textflag.h"

DATA round<>+0(SB)/4, $0x3f000000 // 0.5
GLOBL round<>(SB), RODATA|NOPTR, $4
DATA top<>+0(SB)/4, $0x427c0000 // 63
GLOBL top<>(SB), RODATA|NOPTR, $4

// VALUES leaves the values of a table in Y4 and Y5, in the order of the reference. Both functions
// compute them: that is faster than keeping 64 bytes for each table.
//
//	SI        codebook, from the table on that is next
//	DX        query, likewise
//	CX        tables left
//	Y0..Y3    an element each of the table's four, in every lane
//	Y4, Y5    values of the entries 0..7 and 8..15
//	Y6, Y7    scratch
#define VALUES \
	VBROADCASTSS 0(DX), Y0       \
	VBROADCASTSS 4(DX), Y1       \
	VBROADCASTSS 8(DX), Y2       \
	VBROADCASTSS 12(DX), Y3      \
	VMULPS       (SI), Y0, Y4    \
	VMULPS       32(SI), Y0, Y5  \
	VMULPS       64(SI), Y1, Y6  \
	VMULPS       96(SI), Y1, Y7  \
	VADDPS       Y6, Y4, Y4      \
	VADDPS       Y7, Y5, Y5      \
	VMULPS       128(SI), Y2, Y6 \
	VMULPS       160(SI), Y2, Y7 \
	VADDPS       Y6, Y4, Y4      \
	VADDPS       Y7, Y5, Y5      \
	VMULPS       192(SI), Y3, Y6 \
	VMULPS       224(SI), Y3, Y7 \
	VADDPS       Y6, Y4, Y4      \
	VADDPS       Y7, Y5, Y5

// FOLD leaves the minimum, or whatever the instruction is, of Y4 and Y5 in every lane of y.
#define FOLD(instruction, y) \
	instruction Y5, Y4, y       \
	VPERM2F128  $1, y, y, Y6    \
	instruction Y6, y, y        \
	VPERMILPS   $0x4e, y, Y6    \
	instruction Y6, y, y        \
	VPERMILPS   $0xb1, y, Y6    \
	instruction Y6, y, y

// func codebookSpansAVX2(query, codebook *float32, tables int) (widest, total float32)
//
//	Y8, Y9    minimum and maximum of a table
//	Y10, Y11  widest, total
TEXT ·codebookSpansAVX2(SB), NOSPLIT, $0-32
	MOVQ   query+0(FP), DX
	MOVQ   codebook+8(FP), SI
	MOVQ   tables+16(FP), CX
	VXORPS Y10, Y10, Y10
	VXORPS Y11, Y11, Y11

table:
	VALUES
	FOLD(VMINPS, Y8)
	FOLD(VMAXPS, Y9)
	VSUBPS Y8, Y9, Y9
	VMAXPS Y9, Y10, Y10
	VADDPS Y8, Y11, Y11
	ADDQ   $16, DX
	ADDQ   $256, SI
	DECQ   CX
	JNZ    table
	VMOVSS X10, widest+24(FP)
	VMOVSS X11, total+28(FP)
	VZEROUPPER
	RET

// QUANTIZE turns values into the integers 0..63, in the order of the reference.
#define QUANTIZE(values) \
	VSUBPS     Y8, values, values  \
	VDIVPS     Y15, values, values \
	VMULPS     Y12, values, values \
	VADDPS     Y13, values, values \
	VMAXPS     Y11, values, values \
	VMINPS     Y12, values, values \
	VCVTTPS2DQ values, values

// func codebookTablesAVX2(query, codebook *float32, tables int, lut *byte, widest float32)
//
//	DI                  lut
//	Y8                  minimum of a table
//	Y11, Y12, Y13, Y15  0, 63, 0.5, widest
TEXT ·codebookTablesAVX2(SB), NOSPLIT, $0-36
	MOVQ         query+0(FP), DX
	MOVQ         codebook+8(FP), SI
	MOVQ         tables+16(FP), CX
	MOVQ         lut+24(FP), DI
	VBROADCASTSS widest+32(FP), Y15
	VBROADCASTSS round<>(SB), Y13
	VBROADCASTSS top<>(SB), Y12
	VXORPS       Y11, Y11, Y11

table:
	VALUES
	FOLD(VMINPS, Y8)
	QUANTIZE(Y4)
	QUANTIZE(Y5)
	VPACKUSDW    Y5, Y4, Y4
	VPERMQ       $0xd8, Y4, Y4 // packing works in each half for itself
	VEXTRACTI128 $1, Y4, X5
	VPACKUSWB    X5, X4, X4
	VMOVDQU      X4, (DI)
	ADDQ         $16, DX
	ADDQ         $256, SI
	ADDQ         $16, DI
	DECQ         CX
	JNZ          table
	VZEROUPPER
	RET
