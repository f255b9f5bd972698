//go:build !noasm

#include "textflag.h"

// func signTablesAVX512(query *float32, tables int, lut *byte, widest float32)
//
//	SI        query, from the table on that is next
//	CX        tables left
//	DI        lut
//	Z0..Z3    an element each of the table's four, in every lane; then twice that
//	Z4        values of the entries
//	Z5, Z6    scratch
//	Z7        all bits but the sign
//	Z11..Z15  0, 63, 0.5, 31.5, widest
//	K1..K4    lanes whose number has bit 0, 1, 2, 3 set
TEXT ·signTablesAVX512(SB), NOSPLIT, $0-28
	MOVQ         query+0(FP), SI
	MOVQ         tables+8(FP), CX
	MOVQ         lut+16(FP), DI
	VBROADCASTSS widest+24(FP), Z15
	MOVL         $0x41fc0000, AX
	VPBROADCASTD AX, Z14
	MOVL         $0x3f000000, AX
	VPBROADCASTD AX, Z13
	MOVL         $0x427c0000, AX
	VPBROADCASTD AX, Z12
	VXORPS       X11, X11, X11
	MOVL         $0x7fffffff, AX
	VPBROADCASTD AX, Z7
	MOVL         $0xaaaa, AX
	KMOVW        AX, K1
	MOVL         $0xcccc, AX
	KMOVW        AX, K2
	MOVL         $0xf0f0, AX
	KMOVW        AX, K3
	MOVL         $0xff00, AX
	KMOVW        AX, K4

table:
	VBROADCASTSS 0(SI), Z0
	VBROADCASTSS 4(SI), Z1
	VBROADCASTSS 8(SI), Z2
	VBROADCASTSS 12(SI), Z3

	// Entry 0: the sum of magnitudes less the sum.
	VANDPS Z7, Z0, Z4
	VANDPS Z7, Z1, Z6
	VADDPS Z6, Z4, Z4
	VANDPS Z7, Z2, Z6
	VADDPS Z6, Z4, Z4
	VANDPS Z7, Z3, Z6
	VADDPS Z6, Z4, Z4
	VADDPS Z1, Z0, Z5
	VADDPS Z2, Z5, Z5
	VADDPS Z3, Z5, Z5
	VSUBPS Z5, Z4, Z4

	// Twice an element more where its bit is set.
	VADDPS Z0, Z0, Z0
	VADDPS Z1, Z1, Z1
	VADDPS Z2, Z2, Z2
	VADDPS Z3, Z3, Z3
	VADDPS Z0, Z4, K1, Z4
	VADDPS Z1, Z4, K2, Z4
	VADDPS Z2, Z4, K3, Z4
	VADDPS Z3, Z4, K4, Z4

	// In the order of the reference.
	VDIVPS     Z15, Z4, Z4
	VMULPS     Z14, Z4, Z4
	VADDPS     Z13, Z4, Z4
	VMAXPS     Z11, Z4, Z4
	VMINPS     Z12, Z4, Z4
	VCVTTPS2DQ Z4, Z4
	VPMOVDB    Z4, X4
	VMOVDQU    X4, (DI)
	ADDQ       $16, SI
	ADDQ       $16, DI
	DECQ       CX
	JNZ        table
	VZEROUPPER
	RET
