// What the int8 products of AVX2 share. Registers as in rows_amd64.h, and
//
//	Y0, Y1, Y2, Y3  sums of the four rows
//	Y4              query
//	Y5..Y8          products
//	Y9..Y12         query with the signs of the rows
//	Y14             1 in every word
//	Y15             the last 32 elements of query: those that a whole vector has had are 0

// 32 clear bytes and 32 set ones: the 32 from byte n on have the last n set.
DATA lastBytes<>+0x00(SB)/8, $0
DATA lastBytes<>+0x08(SB)/8, $0
DATA lastBytes<>+0x10(SB)/8, $0
DATA lastBytes<>+0x18(SB)/8, $0
DATA lastBytes<>+0x20(SB)/8, $-1
DATA lastBytes<>+0x28(SB)/8, $-1
DATA lastBytes<>+0x30(SB)/8, $-1
DATA lastBytes<>+0x38(SB)/8, $-1
GLOBL lastBytes<>(SB), RODATA|NOPTR, $64

// MULTIPLY adds 32 products of a row with query. VPMADDUBSW wants one factor without a sign, so
// that of the row's byte x moves to the element q: |x| times q, -q or 0. Two such products, at
// most 128 · 127 each, fit a word and do not saturate; q = -128 would have no opposite. Extending
// both to words takes any q and is a fifth slower (60 and 75 GB/s in the second cache).
#define MULTIPLY(at, query, x, q, sum) \
	VMOVDQU    at, x        \
	VPSIGNB    x, query, q  \
	VPABSB     x, x         \
	VPMADDUBSW q, x, x      \
	VPMADDWD   Y14, x, x    \
	VPADDD     x, sum, sum

// STEP adds the products of 32 elements of four rows.
#define STEP \
	VMOVDQU (DX)(AX*1), Y4                 \
	MULTIPLY((R10)(AX*1), Y4, Y5, Y9, Y0)  \
	MULTIPLY((R11)(AX*1), Y4, Y6, Y10, Y1) \
	MULTIPLY((R12)(AX*1), Y4, Y7, Y11, Y2) \
	MULTIPLY((R13)(AX*1), Y4, Y8, Y12, Y3)

// PREPARE sets Y14 and Y15, and R8 to the elements in whole vectors; before it R8 has all.
#define PREPARE \
	MOVQ     R8, AX                 \
	ANDQ     $31, AX                \
	LEAQ     lastBytes<>(SB), R10   \
	VMOVDQU  (R10)(AX*1), Y15       \
	VPAND    -32(DX)(R8*1), Y15, Y15 \
	ANDQ     $~31, R8               \
	VPCMPEQW Y14, Y14, Y14          \
	VPABSW   Y14, Y14

// CLEAR begins the sums of a group.
#define CLEAR \
	VPXOR Y0, Y0, Y0 \
	VPXOR Y1, Y1, Y1 \
	VPXOR Y2, Y2, Y2 \
	VPXOR Y3, Y3, Y3 \
	XORQ  AX, AX

// LAST adds the products of the elements past the last whole vector, AX being all there are.
#define LAST \
	MULTIPLY(-32(R10)(AX*1), Y15, Y5, Y9, Y0)  \
	MULTIPLY(-32(R11)(AX*1), Y15, Y6, Y10, Y1) \
	MULTIPLY(-32(R12)(AX*1), Y15, Y7, Y11, Y2) \
	MULTIPLY(-32(R13)(AX*1), Y15, Y8, Y12, Y3)

// REDUCE leaves the four sums in the lanes of X0.
#define REDUCE \
	VPHADDD      Y1, Y0, Y0 \
	VPHADDD      Y3, Y2, Y2 \
	VPHADDD      Y2, Y0, Y0 \
	VEXTRACTI128 $1, Y0, X1 \
	VPADDD       X1, X0, X0
