// What L2 and dot share with AVX2. Registers as in rows_amd64.h.

// Eight set lanes and eight clear ones: the eight from lane 8-n on have n set.
DATA lanes8<>+0x00(SB)/8, $-1
DATA lanes8<>+0x08(SB)/8, $-1
DATA lanes8<>+0x10(SB)/8, $-1
DATA lanes8<>+0x18(SB)/8, $-1
DATA lanes8<>+0x20(SB)/8, $0
DATA lanes8<>+0x28(SB)/8, $0
DATA lanes8<>+0x30(SB)/8, $0
DATA lanes8<>+0x38(SB)/8, $0
GLOBL lanes8<>(SB), RODATA|NOPTR, $64

// SPLIT_ROW takes the elements of a row in R8 and sets BX, R8 and Y15.
#define SPLIT_ROW \
	LEAQ (R8*4), BX          \
	MOVQ R8, AX              \
	ANDQ $7, AX              \
	SHLQ $2, AX              \
	MOVQ BX, R8              \
	SUBQ AX, R8              \
	LEAQ lanes8<>+32(SB), R10 \
	SUBQ AX, R10             \
	VMOVDQU (R10), Y15

#define ZERO_SUMS \
	VXORPS Y0, Y0, Y0 \
	VXORPS Y1, Y1, Y1 \
	VXORPS Y2, Y2, Y2 \
	VXORPS Y3, Y3, Y3

// LOAD_TAIL loads the last, partial vector: of the query into Y4, of the rows into Y5..Y8. Lanes
// past the end are not read and become 0.
#define LOAD_TAIL \
	VMASKMOVPS (DX)(AX*1), Y15, Y4  \
	VMASKMOVPS (R10)(AX*1), Y15, Y5 \
	VMASKMOVPS (R11)(AX*1), Y15, Y6 \
	VMASKMOVPS (R12)(AX*1), Y15, Y7 \
	VMASKMOVPS (R13)(AX*1), Y15, Y8

// REDUCE_SUMS leaves the sum of the lanes of Y0, Y1, Y2, Y3 in the four lanes of X0.
#define REDUCE_SUMS \
	VHADDPS Y1, Y0, Y0      \
	VHADDPS Y3, Y2, Y2      \
	VHADDPS Y2, Y0, Y0      \
	VEXTRACTF128 $1, Y0, X1 \
	VADDPS  X1, X0, X0
