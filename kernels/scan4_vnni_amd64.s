//go:build !noasm

#include "textflag.h"
#include "scan4_amd64.h"
#include "scan4_avx512_amd64.h"

// Where the bytes of a 32-bit lane come from: byte j of lane v is the code of row v for
// sub-quantizer j of four, 16·j + v in the stored layout.
DATA transposed<>+0x00(SB)/8, $0x3121110130201000
DATA transposed<>+0x08(SB)/8, $0x3323130332221202
DATA transposed<>+0x10(SB)/8, $0x3525150534241404
DATA transposed<>+0x18(SB)/8, $0x3727170736261606
DATA transposed<>+0x20(SB)/8, $0x3929190938281808
DATA transposed<>+0x28(SB)/8, $0x3b2b1b0b3a2a1a0a
DATA transposed<>+0x30(SB)/8, $0x3d2d1d0d3c2c1c0c
DATA transposed<>+0x38(SB)/8, $0x3f2f1f0f3e2e1e0e
GLOBL transposed<>(SB), RODATA|NOPTR, $64

// LOOK_UP adds the table entries of four sub-quantizers for 32 rows. The codes in Z4 are
// transposed, so that a lane holds the four of one row; each byte gets the number of its table
// in bits 4 and 5 (imm 0xEC is a·b | c), and a permutation of the four tables in Z6 is the
// look-up. The products with 1 add up inside the lane: low are the sums of rows 0..15, high
// those of rows 16..31, without a bound but that of 32 bits.
#define LOOK_UP(low, high) \
	VPSRLW     $4, Z4, Z5            \
	VPTERNLOGD $0xEC, Z20, Z21, Z4   \
	VPTERNLOGD $0xEC, Z20, Z21, Z5   \
	VPERMB     Z6, Z4, Z4            \
	VPERMB     Z6, Z5, Z5            \
	VPDPBUSD   Z22, Z4, low          \
	VPDPBUSD   Z22, Z5, high

// func scan4VNNI(blocks *byte, count int, lut *byte, subQuantizers int, scan *Scan, mask *uint32, first int, est *float32, rows *uint32) int
//
// Registers as in scan4_amd64.h and scan4_avx512_amd64.h, and
//
//	Z0, Z1      sums of 16 rows each
//	Z2, Z3      more of them, so that additions do not wait for each other
//	Z4, Z5, Z6  scratch
//	Z21         table numbers 0, 1, 2, 3, times 16, in the bytes of a lane
//	Z22         1 in every byte
//	Z23         transposed
//	K1          32-bit lanes of a last, partial vector of codes
TEXT ·scan4VNNI(SB), NOSPLIT, $0-80
	MOVQ         blocks+0(FP), SI
	MOVQ         count+8(FP), CX
	MOVQ         lut+16(FP), DX
	MOVQ         subQuantizers+24(FP), R8
	MOVQ         scan+32(FP), AX
	MOVQ         mask+40(FP), R9
	MOVQ         first+48(FP), R10
	MOVQ         est+56(FP), DI
	MOVQ         rows+64(FP), R12
	XORQ         R13, R13
	SHLQ         $4, R8
	LOAD_CONSTANTS
	TAIL_LANES
	MOVL         $0x30201000, AX
	VPBROADCASTD AX, Z21
	MOVL         $0x01010101, AX
	VPBROADCASTD AX, Z22
	VMOVDQU64    transposed<>(SB), Z23

	// R14 and R11 are the last places where eight and four sub-quantizers are left.
	LEAQ -128(R8), R14

block:
	MOVL  (R9), BX
	TESTL BX, BX
	JZ    next
	VPXOR X0, X0, X0
	VPXOR X1, X1, X1
	VPXOR X2, X2, X2
	VPXOR X3, X3, X3
	XORQ  AX, AX
	CMPQ  AX, R14
	JGT   four

eight:
	PREFETCH_CODES(0)
	PREFETCH_CODES(64)
	VPERMB    (SI)(AX*1), Z23, Z4
	VMOVDQU64 (DX)(AX*1), Z6
	LOOK_UP(Z0, Z1)
	VPERMB    64(SI)(AX*1), Z23, Z4
	VMOVDQU64 64(DX)(AX*1), Z6
	LOOK_UP(Z2, Z3)
	ADDQ      $128, AX
	CMPQ      AX, R14
	JLE       eight

four:
	LEAQ      -64(R8), R11
	CMPQ      AX, R11
	JGT       part
	VPERMB    (SI)(AX*1), Z23, Z4
	VMOVDQU64 (DX)(AX*1), Z6
	LOOK_UP(Z0, Z1)
	ADDQ      $64, AX

part:
	CMPQ AX, R8
	JGE  sums

	// What is past the end is not read and looks up code 0 in a table of zeros.
	VMOVDQU32.Z (SI)(AX*1), K1, Z4
	VPERMB      Z4, Z23, Z4
	VMOVDQU32.Z (DX)(AX*1), K1, Z6
	LOOK_UP(Z2, Z3)

sums:
	VPADDD Z2, Z0, Z0
	VPADDD Z3, Z1, Z1
	KEEP16(Z0, 0, 0, second)
	SHRL   $16, BX
	KEEP16(Z1, 32, 16, next)
	NEXT_BLOCK
	MOVQ   R13, ret+72(FP)
	VZEROUPPER
	RET
