// What the kernels over rows share on amd64: the rows are taken in groups of four, so that each
// element of the query is loaded once for four rows and four sums run side by side. A last group
// of fewer repeats its first row, which costs nothing: a sum waits for its own additions.
//
//	DX  query
//	SI  rows; while rows follow each other, those not begun
//	BX  bytes from one row to the next; the macros below take how many of them a row has
//	R9  which, of the rows not begun; 0 while rows follow each other
//	CX  rows not finished
//	DI  out, of the rows not finished
//	R8  bytes of a row in whole vectors
//	AX  bytes of the row done; scratch between groups
//	R10, R11, R12, R13  the rows of the group
//	R14  above 0 if a group follows that is not gathered
//	R15  scratch

// PREFETCH_NEXT asks for a part of the next group, and 2 KiB more, while as much of this one is
// added up: AX is a quarter of what they take. AVX2 takes int8 rows of 768 dimensions from memory
// at 30 GB/s with it and at 20 without, and from the second cache no slower.
#define PREFETCH_NEXT(at) PREFETCHT0 2048+at(SI)(AX*4)

// GATHER_ROW loads a row that which names, and ENTRY is the size of a name: a number of 4 bytes, or
// where ROWS_BY_POINTER is defined before this file is included, a pointer.
#ifdef ROWS_BY_POINTER
#define ENTRY 8
#define GATHER_ROW(at, names, row) MOVQ at(names), row
#else
#define ENTRY 4
#define GATHER_ROW(at, names, row) \
	MOVL  at(names), row \
	IMULQ BX, row        \
	ADDQ  SI, row
#endif

// FETCH_ROWS prefetches the R11 rows that AX names, if any: every line that a row of so many bytes
// has a part of, up to PREFETCH_LIMIT bytes, after which the processor has seen the pattern: rows of
// 3 KiB take 270 ns with 512 bytes, 310 with 1024 and 390 with all.
#define PREFETCH_LIMIT 512

#define FETCH_ROWS(bytes, row, line, fetched) \
	MOVL  $PREFETCH_LIMIT, R15 \
	CMPQ  R15, bytes           \
	CMOVQGT bytes, R15         \
	TESTQ R11, R11             \
	JLE   fetched              \
row:                           \
	GATHER_ROW(0, AX, R10)     \
	MOVL  R10, R12             \
	ANDL  $63, R12             \
	ADDQ  R15, R12             \
line:                          \
	PREFETCHT0 (R10)           \
	ADDQ  $64, R10             \
	SUBQ  $64, R12             \
	JGT   line                 \
	ADDQ  $ENTRY, AX           \
	DECQ  R11                  \
	JNZ   row                  \
fetched:

// LOOKAHEAD is how many rows ahead that is. Four short rows are not enough lines to keep the memory
// busy: 128 int8 take 34 ns a row with 16 ahead and 40 with 4, from huge pages at random.
#define LOOKAHEAD 16

// FIRST_ROWS prefetches the first rows when they are gathered, before the label group.
#define FIRST_ROWS(bytes) \
	TESTQ R9, R9               \
	JZ    group                \
	MOVQ  R9, AX               \
	MOVL  $LOOKAHEAD, R11      \
	CMPQ  R11, CX              \
	CMOVQGT CX, R11            \
	FETCH_ROWS(bytes, firstRow, firstLine, firstDone)

// ROW_POINTERS sets R10..R13 to the next four rows. When they are gathered, it prefetches the four
// that are LOOKAHEAD rows ahead.
#define ROW_POINTERS(bytes) \
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
	LEAQ  (ENTRY*LOOKAHEAD)(R9), AX \
	LEAQ  -LOOKAHEAD(CX), R11   \
	MOVL  $4, R12           \
	CMPQ  R11, R12          \
	CMOVQGT R12, R11        \
	FETCH_ROWS(bytes, nextRow, nextLine, fetched) \
	XORL  R14, R14          \
	GATHER_ROW((0*ENTRY), R9, R10)  \
	MOVQ  R10, R11          \
	MOVQ  R10, R12          \
	MOVQ  R10, R13          \
	CMPQ  CX, $2            \
	JLT   ready             \
	GATHER_ROW((1*ENTRY), R9, R11)  \
	CMPQ  CX, $3            \
	JLT   ready             \
	GATHER_ROW((2*ENTRY), R9, R12)  \
	CMPQ  CX, $4            \
	JLT   ready             \
	GATHER_ROW((3*ENTRY), R9, R13) \
	ADDQ  $(4*ENTRY), R9    \
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
