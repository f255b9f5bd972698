//go:build !noasm

#include "textflag.h"
#include "scan4_amd64.h"
#include "scan4_avx512_amd64.h"

// LOOK_UP looks up the table entries of four sub-quantizers, one in each quarter of the vectors:
// the codes of 32 rows in Z7, the tables in Z10. low are those of rows 0..15, high those of rows
// 16..31.
#define LOOK_UP(low, high) \
	VPSRLW  $4, Z7, Z11    \
	VPANDQ  Z20, Z7, Z7    \
	VPANDQ  Z20, Z11, Z11  \
	VPSHUFB Z7, Z10, low   \
	VPSHUFB Z11, Z10, high

// ADD_LOOK_UP adds them to the bytes of Z4 and Z5, which hold the sums of four.
#define ADD_LOOK_UP \
	LOOK_UP(Z7, Z11)   \
	VPADDB  Z7, Z4, Z4  \
	VPADDB  Z11, Z5, Z5

// ADD_BYTES adds the bytes of Z4 and Z5 to the sums of words. Words sum pairs of bytes, Z0 and Z2
// both of them and Z1 and Z3 the upper ones alone, so that the lower ones are a difference in the
// end.
#define ADD_BYTES \
	VPADDW Z4, Z0, Z0  \
	VPSRLW $8, Z4, Z4  \
	VPADDW Z5, Z2, Z2  \
	VPSRLW $8, Z5, Z5  \
	VPADDW Z4, Z1, Z1  \
	VPADDW Z5, Z3, Z3

// ADD_QUARTERS adds the four quarters of a vector of words in its lowest one.
#define ADD_QUARTERS(z, y, x) \
	VEXTRACTI64X4 $1, z, Y4 \
	VPADDW Y4, y, y         \
	VEXTRACTI128 $1, y, X4  \
	VPADDW X4, x, x

// func scan4AVX512(blocks *byte, count int, lut *byte, subQuantizers int, scan *Scan, mask *uint32, first int, est *float32, rows *uint32) int
//
// Registers as in scan4_amd64.h and scan4_avx512_amd64.h, and
//
//	Z0..Z3      sums of words in a chunk: of rows 0..15, their odd ones; of rows 16..31, their odd ones
//	Z4, Z5      sums of bytes: of rows 0..15 and of rows 16..31; scratch
//	Z6          scratch
//	Z7, Z10, Z11  codes, tables, codes of rows 16..31
//	Z8, Z9      sums of 16 rows each
//	K1          32-bit lanes of a last, partial vector of codes
TEXT ·scan4AVX512(SB), NOSPLIT, $0-80
	MOVQ blocks+0(FP), SI
	MOVQ count+8(FP), CX
	MOVQ lut+16(FP), DX
	MOVQ subQuantizers+24(FP), R8
	MOVQ scan+32(FP), AX
	MOVQ mask+40(FP), R9
	MOVQ first+48(FP), R10
	MOVQ est+56(FP), DI
	MOVQ rows+64(FP), R12
	XORQ R13, R13
	SHLQ $4, R8
	LOAD_CONSTANTS
	TAIL_LANES

block:
	MOVL  (R9), BX
	TESTL BX, BX
	JZ    next
	VPXOR X8, X8, X8
	VPXOR X9, X9, X9
	XORQ  AX, AX

	// 1024 sub-quantizers at a time: 1024 · 63 fits a word. R11 is where the chunk ends, R14 the last place where
	// sixteen of them are left, and then where four are.
chunk:
	LEAQ    16384(AX), R11
	CMPQ    R11, R8
	CMOVQGT R8, R11
	LEAQ    -256(R11), R14
	VPXOR   X0, X0, X0
	VPXOR   X1, X1, X1
	VPXOR   X2, X2, X2
	VPXOR   X3, X3, X3
	CMPQ    AX, R14
	JGT     rest

sixteen:
	PREFETCH_CODES(0)
	PREFETCH_CODES(64)
	PREFETCH_CODES(128)
	PREFETCH_CODES(192)
	VMOVDQU64 (SI)(AX*1), Z7
	VMOVDQU64 (DX)(AX*1), Z10
	LOOK_UP(Z4, Z5)
	VMOVDQU64 64(SI)(AX*1), Z7
	VMOVDQU64 64(DX)(AX*1), Z10
	ADD_LOOK_UP
	VMOVDQU64 128(SI)(AX*1), Z7
	VMOVDQU64 128(DX)(AX*1), Z10
	ADD_LOOK_UP
	VMOVDQU64 192(SI)(AX*1), Z7
	VMOVDQU64 192(DX)(AX*1), Z10
	ADD_LOOK_UP
	ADD_BYTES
	ADDQ      $256, AX
	CMPQ      AX, R14
	JLE       sixteen

rest:
	CMPQ  AX, R11
	JGE   widen
	VPXOR X4, X4, X4
	VPXOR X5, X5, X5
	ADDQ  $192, R14
	CMPQ  AX, R14
	JGT   part

four:
	VMOVDQU64 (SI)(AX*1), Z7
	VMOVDQU64 (DX)(AX*1), Z10
	ADD_LOOK_UP
	ADDQ      $64, AX
	CMPQ      AX, R14
	JLE       four
	CMPQ      AX, R11
	JGE       bytes

	// What is past the end is not read and looks up code 0 in a table of zeros. With three
	// vectors before, that makes four.
part:
	VMOVDQU32.Z (SI)(AX*1), K1, Z7
	VMOVDQU32.Z (DX)(AX*1), K1, Z10
	ADD_LOOK_UP
	MOVQ        R11, AX

bytes:
	ADD_BYTES

widen:
	VPSLLW      $8, Z1, Z4
	VPSUBW      Z4, Z0, Z0
	VPSLLW      $8, Z3, Z4
	VPSUBW      Z4, Z2, Z2
	ADD_QUARTERS(Z0, Y0, X0)
	ADD_QUARTERS(Z1, Y1, X1)
	ADD_QUARTERS(Z2, Y2, X2)
	ADD_QUARTERS(Z3, Y3, X3)
	VPUNPCKLWD  X1, X0, X4
	VPUNPCKHWD  X1, X0, X5
	VPUNPCKLWD  X3, X2, X6
	VPUNPCKHWD  X3, X2, X7
	VINSERTI128 $1, X5, Y4, Y4
	VINSERTI128 $1, X7, Y6, Y6
	VPMOVZXWD   Y4, Z4
	VPMOVZXWD   Y6, Z6
	VPADDD      Z4, Z8, Z8
	VPADDD      Z6, Z9, Z9
	CMPQ        AX, R8
	JLT         chunk

	KEEP16(Z8, 0, 0, second)
	SHRL $16, BX
	KEEP16(Z9, 32, 16, next)
	NEXT_BLOCK
	MOVQ R13, ret+72(FP)
	VZEROUPPER
	RET
