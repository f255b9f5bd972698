// What the kernels over rows share on amd64: the rows are taken in groups of four, so that each
// element of the query is loaded once for four rows and four sums run side by side. A last group
// of fewer repeats its first row, which costs nothing: a sum waits for its own additions.
//
//	DX  query
//	SI  rows; while rows follow each other, those not begun
//	BX  bytes from one row to the next
//	R9  which, of the rows not begun; 0 while rows follow each other
//	CX  rows not finished
//	DI  out, of the rows not finished
//	R8  bytes of a row in whole vectors
//	AX  bytes of the row done
//	R10, R11, R12, R13  the rows of the group
//	R14  above 0 if a group follows that is not gathered
//	R15  scratch

// PREFETCH_NEXT asks for a part of the next group, and 2 KiB more, while as much of this one is
// added up: AX is a quarter of what they take. AVX2 takes int8 rows of 768 dimensions from memory
// at 30 GB/s with it and at 20 without, and from the second cache no slower.
#define PREFETCH_NEXT(at) PREFETCHT0 2048+at(SI)(AX*4)

// ROW_POINTERS sets R10..R13 to the next four rows and prefetches the four after them when they
// are gathered: up to PREFETCH_LIMIT bytes of each, after which the processor has seen the pattern.
#define PREFETCH_LIMIT 1024

#define PREFETCH_ROW(at, next) \
	MOVL  at(R9), AX       \
	IMULQ BX, AX           \
	ADDQ  SI, AX           \
	MOVQ  R15, R14         \
next:                      \
	PREFETCHT0 (AX)        \
	ADDQ  $64, AX          \
	SUBQ  $64, R14         \
	JGT   next

#define GATHER_ROW(at, row) \
	MOVL  at(R9), row \
	IMULQ BX, row     \
	ADDQ  SI, row

#define ROW_POINTERS \
	TESTQ R9, R9            \
	JNZ   gathered          \
	MOVQ  SI, R10           \
	LEAQ  (SI)(BX*1), R11   \
	LEAQ  (SI)(BX*2), R12   \
	LEAQ  (R12)(BX*1), R13  \
	LEAQ  (SI)(BX*4), SI    \
	LEAQ  -4(CX), R14       \
	CMPQ  CX, $4            \
	JGE   ready             \
	CMPQ  CX, $2            \
	CMOVQLT R10, R11        \
	CMOVQLE R10, R12        \
	MOVQ  R10, R13          \
	JMP   ready             \
gathered:                   \
	XORL  R14, R14          \
	GATHER_ROW(0, R10)      \
	MOVQ  R10, R11          \
	MOVQ  R10, R12          \
	MOVQ  R10, R13          \
	CMPQ  CX, $2            \
	JLT   ready             \
	GATHER_ROW(4, R11)      \
	CMPQ  CX, $3            \
	JLT   ready             \
	GATHER_ROW(8, R12)      \
	CMPQ  CX, $4            \
	JLT   ready             \
	GATHER_ROW(12, R13)     \
	ADDQ  $16, R9           \
	CMPQ  CX, $8            \
	JLT   ready             \
	MOVL  $PREFETCH_LIMIT, R15 \
	CMPQ  R15, BX           \
	CMOVQGT BX, R15         \
	PREFETCH_ROW(0, fetch0) \
	PREFETCH_ROW(4, fetch1) \
	PREFETCH_ROW(8, fetch2) \
	PREFETCH_ROW(12, fetch3) \
ready:

// STORE_GROUP writes the results of the group, which are the lanes of X0, and returns after the
// last one. Each of the four bytes is copied as it is, so it serves int32 as well.
#define STORE_GROUP \
	CMPQ  CX, $4              \
	JLT   few                 \
	VMOVUPS X0, (DI)          \
	ADDQ  $16, DI             \
	SUBQ  $4, CX              \
	JNZ   group               \
	VZEROUPPER                \
	RET                       \
few:                          \
	VMOVSS X0, (DI)           \
	CMPQ  CX, $2              \
	JLT   done                \
	VEXTRACTPS $1, X0, 4(DI)  \
	JEQ   done                \
	VEXTRACTPS $2, X0, 8(DI)  \
done:                         \
	VZEROUPPER                \
	RET
