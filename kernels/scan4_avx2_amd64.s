//go:build !noasm

#include "textflag.h"
#include "scan4_amd64.h"

DATA nibble<>+0(SB)/4, $0x0f0f0f0f
GLOBL nibble<>(SB), RODATA|NOPTR, $4

// LOOK_UP looks up the table entries of two sub-quantizers, one in each half of the vectors: low
// are those of rows 0..15, high those of rows 16..31. low may be the register of the codes.
#define LOOK_UP(at, codes, table, low, high) \
	VMOVDQU at(SI)(AX*1), codes    \
	VMOVDQU at(DX)(AX*1), table    \
	VPSRLW  $4, codes, high        \
	VPAND   Y15, codes, codes      \
	VPAND   Y15, high, high        \
	VPSHUFB codes, table, low      \
	VPSHUFB high, table, high

// ADD_LOOK_UP adds those of two more to the bytes of Y4 and Y5, which hold the sums of four.
#define ADD_LOOK_UP(at) \
	LOOK_UP(at, Y6, Y7, Y6, Y12) \
	VPADDB Y6, Y4, Y4            \
	VPADDB Y12, Y5, Y5

// ADD_BYTES adds the bytes of low and high to the sums of words. Words sum pairs of bytes, Y0 and
// Y2 both of them and Y1 and Y3 the upper ones alone, so that the lower ones are a difference in
// the end.
#define ADD_BYTES(low, high) \
	VPADDW low, Y0, Y0     \
	VPSRLW $8, low, low    \
	VPADDW high, Y2, Y2    \
	VPSRLW $8, high, high  \
	VPADDW low, Y1, Y1     \
	VPADDW high, Y3, Y3

// WIDEN adds the sums of 16 rows in a chunk, of which both and odd are words of each half, to two
// vectors of 8.
#define WIDEN(both, odd, low, high) \
	VPSLLW       $8, odd, Y4       \
	VPSUBW       Y4, both, both    \
	VPUNPCKLWD   odd, both, Y4     \
	VPUNPCKHWD   odd, both, Y5     \
	VINSERTI128  $1, X5, Y4, Y6    \
	VPERM2I128   $0x31, Y5, Y4, Y4 \
	VPADDW       Y6, Y4, Y4        \
	VEXTRACTI128 $1, Y4, X5        \
	VPMOVZXWD    X4, Y4            \
	VPMOVZXWD    X5, Y5            \
	VPADDD       Y4, low, low      \
	VPADDD       Y5, high, high

// ESTIMATE turns the sums of 8 rows, whose factors begin at the given byte after the codes, into
// estimates, and sets their bits in R11 from bit on if they are below the limit.
#define ESTIMATE(sums, factors, bit) \
	VCVTDQ2PS sums, sums                   \
	VCVTPH2PS 64+factors(SI)(R8*1), Y4     \
	VCVTPH2PS factors(SI)(R8*1), Y5        \
	VMULPS    Y14, sums, sums              \
	VADDPS    Y13, sums, sums              \
	VMULPS    Y4, sums, sums               \
	VADDPS    Y5, sums, sums               \
	VCMPPS    $0x11, Y12, sums, Y5         \
	VMOVMSKPS Y5, AX                       \
	SHLL      $bit, AX                     \
	ORL       AX, R11

// func scan4AVX2(blocks *byte, count int, lut *byte, subQuantizers int, scan *Scan, mask *uint32, first int, est *float32, rows *uint32) int
//
// Registers as in scan4_amd64.h, and
//
//	Y0..Y3          sums of words in a chunk: of rows 0..15, their odd ones; of rows 16..31, their odd ones
//	Y4..Y7          scratch
//	Y8..Y11         sums of 8 rows each, then their estimates
//	Y12, Y13, Y14   scratch in a chunk; then limit, bias, scale
//	Y15             0x0f in every byte
//	0(SP)..127(SP)  estimates of the block
TEXT ·scan4AVX2(SB), NOSPLIT, $128-80
	MOVQ         blocks+0(FP), SI
	MOVQ         count+8(FP), CX
	MOVQ         lut+16(FP), DX
	MOVQ         subQuantizers+24(FP), R8
	MOVQ         mask+40(FP), R9
	MOVQ         first+48(FP), R10
	MOVQ         est+56(FP), DI
	MOVQ         rows+64(FP), R12
	XORQ         R13, R13
	SHLQ         $4, R8
	VPBROADCASTD nibble<>(SB), Y15

block:
	MOVL  (R9), BX
	TESTL BX, BX
	JZ    next
	VPXOR Y8, Y8, Y8
	VPXOR Y9, Y9, Y9
	VPXOR Y10, Y10, Y10
	VPXOR Y11, Y11, Y11
	XORQ  AX, AX

	// 1024 sub-quantizers at a time: 1024 · 63 fits a word. R11 is where the chunk ends, R14 the
	// last place where eight of them are left, and then where two are.
chunk:
	LEAQ    16384(AX), R11
	CMPQ    R11, R8
	CMOVQGT R8, R11
	LEAQ    -128(R11), R14
	VPXOR   Y0, Y0, Y0
	VPXOR   Y1, Y1, Y1
	VPXOR   Y2, Y2, Y2
	VPXOR   Y3, Y3, Y3
	CMPQ    AX, R14
	JGT     rest

eight:
	PREFETCH_CODES(0)
	PREFETCH_CODES(64)
	LOOK_UP(0, Y6, Y7, Y4, Y5)
	ADD_LOOK_UP(32)
	ADD_LOOK_UP(64)
	ADD_LOOK_UP(96)
	ADD_BYTES(Y4, Y5)
	ADDQ    $128, AX
	CMPQ    AX, R14
	JLE     eight

rest:
	CMPQ  AX, R11
	JGE   widen
	VPXOR Y4, Y4, Y4
	VPXOR Y5, Y5, Y5
	ADDQ  $96, R14
	CMPQ  AX, R14
	JGT   odd

pair:
	ADD_LOOK_UP(0)
	ADDQ $32, AX
	CMPQ AX, R14
	JLE  pair
	CMPQ AX, R11
	JGE  bytes

	// The upper halves are cleared: they look up code 0 in a table of zeros. With three pairs
	// before, that makes four look-ups.
odd:
	VMOVDQU (SI)(AX*1), X6
	VMOVDQU (DX)(AX*1), X7
	VPSRLW  $4, X6, X12
	VPAND   Y15, Y6, Y6
	VPAND   Y15, Y12, Y12
	VPSHUFB Y6, Y7, Y6
	VPSHUFB Y12, Y7, Y7
	VPADDB  Y6, Y4, Y4
	VPADDB  Y7, Y5, Y5
	ADDQ    $16, AX

bytes:
	ADD_BYTES(Y4, Y5)

widen:
	WIDEN(Y0, Y1, Y8, Y9)
	WIDEN(Y2, Y3, Y10, Y11)
	CMPQ AX, R8
	JLT  chunk

	MOVQ         scan+32(FP), AX
	VBROADCASTSS 0(AX), Y14
	VBROADCASTSS 4(AX), Y13
	VBROADCASTSS 8(AX), Y12
	XORL R11, R11
	ESTIMATE(Y8, 0, 0)
	ESTIMATE(Y9, 16, 8)
	ESTIMATE(Y10, 32, 16)
	ESTIMATE(Y11, 48, 24)
	ANDL BX, R11
	JZ   next

	// Few rows are below the limit of a search that is under way.
	VMOVUPS Y8, (SP)
	VMOVUPS Y9, 32(SP)
	VMOVUPS Y10, 64(SP)
	VMOVUPS Y11, 96(SP)

keep:
	TZCNTL R11, AX
	MOVL   (SP)(AX*4), R14
	MOVL   R14, (DI)(R13*4)
	ADDL   R10, AX
	MOVL   AX, (R12)(R13*4)
	INCQ   R13
	BLSRL  R11, R11
	JNZ    keep

next:
	NEXT_BLOCK
	MOVQ R13, ret+72(FP)
	VZEROUPPER
	RET
