//go:build !noasm

#include "textflag.h"
#include "scan4_amd64.h"

DATA nibble<>+0(SB)/4, $0x0f0f0f0f
GLOBL nibble<>(SB), RODATA|NOPTR, $4

// LOOK_UP adds the table entries of two sub-quantizers, one in each half of the vectors: the
// codes of 32 rows in Y4, the tables in Y5. Words sum pairs of bytes, Y0 and Y2 both of them and
// Y1 and Y3 the upper ones alone, so that the lower ones are a difference in the end.
#define LOOK_UP \
	VPSRLW  $4, Y4, Y6   \
	VPAND   Y15, Y4, Y4  \
	VPAND   Y15, Y6, Y6  \
	VPSHUFB Y4, Y5, Y4   \
	VPSHUFB Y6, Y5, Y6   \
	VPADDW  Y4, Y0, Y0   \
	VPSRLW  $8, Y4, Y4   \
	VPADDW  Y6, Y2, Y2   \
	VPSRLW  $8, Y6, Y6   \
	VPADDW  Y4, Y1, Y1   \
	VPADDW  Y6, Y3, Y3

// ADD_HALVES adds the upper half of a vector of words to its lower one.
#define ADD_HALVES(y, x) \
	VEXTRACTI128 $1, y, X4 \
	VPADDW X4, x, x

// ESTIMATE turns the sums of 8 rows, whose factors begin at the given byte after the codes, into
// estimates on the stack, and sets their bits in R11 from bit on if they are below the limit.
#define ESTIMATE(sums, factors, bit) \
	VCVTDQ2PS sums, Y4                      \
	VMULPS    Y14, Y4, Y4                   \
	VADDPS    Y13, Y4, Y4                   \
	VMULPS    128+factors(SI)(R8*1), Y4, Y4 \
	VADDPS    factors(SI)(R8*1), Y4, Y4     \
	VCMPPS    $0x11, Y12, Y4, Y5            \
	VMOVMSKPS Y5, AX                        \
	SHLL      $bit, AX                      \
	ORL       AX, R11                       \
	VMOVUPS   Y4, factors(SP)

// func scan4AVX2(blocks *byte, count int, lut *byte, subQuantizers int, scan *Scan, mask *uint32, first int, est *float32, rows *uint32) int
//
// Registers as in scan4_amd64.h, and
//
//	Y0..Y3          sums of words in a chunk: of rows 0..15, their odd ones; of rows 16..31, their odd ones
//	Y4, Y5, Y6      scratch
//	Y8..Y11         sums of 8 rows each
//	Y12, Y13, Y14   limit, bias, scale
//	Y15             0x0f in every byte
//	0(SP)..127(SP)  estimates of the block
TEXT ·scan4AVX2(SB), NOSPLIT, $128-80
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
	VBROADCASTSS 0(AX), Y14
	VBROADCASTSS 4(AX), Y13
	VBROADCASTSS 8(AX), Y12
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

	// 256 sub-quantizers at a time: 256 · 255 fits a word. R11 is where the chunk ends, R14 the
	// last place where two of them are left.
chunk:
	LEAQ    4096(AX), R11
	CMPQ    R11, R8
	CMOVQGT R8, R11
	LEAQ    -32(R11), R14
	VPXOR   Y0, Y0, Y0
	VPXOR   Y1, Y1, Y1
	VPXOR   Y2, Y2, Y2
	VPXOR   Y3, Y3, Y3
	CMPQ    AX, R14
	JGT     odd

pair:
	PREFETCH_CODES(0)
	VMOVDQU (SI)(AX*1), Y4
	VMOVDQU (DX)(AX*1), Y5
	LOOK_UP
	ADDQ    $32, AX
	CMPQ    AX, R14
	JLE     pair

odd:
	CMPQ    AX, R11
	JGE     widen

	// The upper halves are cleared: they look up code 0 in a table of zeros.
	VMOVDQU (SI)(AX*1), X4
	VMOVDQU (DX)(AX*1), X5
	LOOK_UP
	ADDQ    $16, AX

widen:
	VPSLLW     $8, Y1, Y4
	VPSUBW     Y4, Y0, Y0
	VPSLLW     $8, Y3, Y4
	VPSUBW     Y4, Y2, Y2
	ADD_HALVES(Y0, X0)
	ADD_HALVES(Y1, X1)
	ADD_HALVES(Y2, X2)
	ADD_HALVES(Y3, X3)
	VPUNPCKLWD X1, X0, X4
	VPUNPCKHWD X1, X0, X5
	VPUNPCKLWD X3, X2, X6
	VPUNPCKHWD X3, X2, X7
	VPMOVZXWD  X4, Y4
	VPMOVZXWD  X5, Y5
	VPMOVZXWD  X6, Y6
	VPMOVZXWD  X7, Y7
	VPADDD     Y4, Y8, Y8
	VPADDD     Y5, Y9, Y9
	VPADDD     Y6, Y10, Y10
	VPADDD     Y7, Y11, Y11
	CMPQ       AX, R8
	JLT        chunk

	XORL R11, R11
	ESTIMATE(Y8, 0, 0)
	ESTIMATE(Y9, 32, 8)
	ESTIMATE(Y10, 64, 16)
	ESTIMATE(Y11, 96, 24)
	ANDL BX, R11
	JZ   next

	// Few rows are below the limit of a search that is under way.
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
