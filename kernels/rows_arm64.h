// What the kernels over rows share on arm64: the rows are taken in groups of four, so that each
// element of the query is loaded once for four rows. A last group of fewer repeats its first row.
//
//	R0  query
//	R1  rows; while rows follow each other, those not begun
//	R2  elements of a row
//	R3  which, of the rows not begun; 0 while rows follow each other
//	R4  rows not finished
//	R5  out, of the rows not finished
//	R6  bytes from one row to the next
//	R7  query, from the element on that is next
//	R8, R9, R10, R11  the rows of the group, likewise
//	R12  elements of the row left
//	R13, R14, R15  scratch

// PREFETCH_LIMIT is how much of a gathered row is prefetched; after that the processor has seen
// the pattern.
#define PREFETCH_LIMIT 1024

#define GATHER_ROW(at, row) \
	MOVWU at(R3), row       \
	MADD  R6, R1, row, row

#define PREFETCH_ROW(at, next) \
	GATHER_ROW(at, R13)        \
	MOVD R15, R14              \
next:                          \
	PRFM (R13), PLDL1KEEP      \
	ADD  $64, R13              \
	SUBS $64, R14              \
	BGT  next

// ROW_POINTERS sets R7 to the query and R8..R11 to the next four rows, and prefetches the four
// after them when they are gathered.
#define ROW_POINTERS \
	MOVD R0, R7                  \
	CBNZ R3, gathered            \
	MOVD R1, R8                  \
	ADD  R6, R8, R9              \
	ADD  R6, R9, R10             \
	ADD  R6, R10, R11            \
	ADD  R6, R11, R1             \
	CMP  $4, R4                  \
	BGE  ready                   \
	CMP  $2, R4                  \
	CSEL LT, R8, R9, R9          \
	CSEL LE, R8, R10, R10        \
	MOVD R8, R11                 \
	B    ready                   \
gathered:                        \
	GATHER_ROW(0, R8)            \
	MOVD R8, R9                  \
	MOVD R8, R10                 \
	MOVD R8, R11                 \
	CMP  $2, R4                  \
	BLT  ready                   \
	GATHER_ROW(4, R9)            \
	BEQ  ready                   \
	GATHER_ROW(8, R10)           \
	CMP  $4, R4                  \
	BLT  ready                   \
	GATHER_ROW(12, R11)          \
	ADD  $16, R3                 \
	CMP  $8, R4                  \
	BLT  ready                   \
	MOVD $PREFETCH_LIMIT, R15    \
	CMP  R15, R6                 \
	CSEL LT, R6, R15, R15        \
	PREFETCH_ROW(0, fetch0)      \
	PREFETCH_ROW(4, fetch1)      \
	PREFETCH_ROW(8, fetch2)      \
	PREFETCH_ROW(12, fetch3)     \
ready:

// STORE_GROUP writes the results of the group, which are the lanes of V0, and returns after the
// last one.
#define STORE_GROUP \
	CMP    $4, R4              \
	BLT    few                 \
	VST1.P [V0.S4], 16(R5)     \
	SUBS   $4, R4              \
	BNE    group               \
	RET                        \
few:                           \
	FMOVS  F0, (R5)            \
	CMP    $2, R4              \
	BLT    done                \
	VMOV   V0.S[1], R13        \
	MOVW   R13, 4(R5)          \
	BEQ    done                \
	VMOV   V0.S[2], R13        \
	MOVW   R13, 8(R5)          \
done:                          \
	RET
