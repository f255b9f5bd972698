// What L2 and dot share with AVX-512. Registers as in rows_amd64.h.

// SPLIT_ROW takes the elements of a row in R8 and sets BX, R8 and K1, the lanes of a row's last,
// partial vector.
#define SPLIT_ROW \
	LEAQ  (R8*4), BX   \
	MOVQ  R8, R10      \
	ANDQ  $15, R10     \
	SUBQ  R10, R8      \
	SHLQ  $2, R8       \
	MOVL  $0xffff, AX  \
	BZHIL R10, AX, AX  \
	KMOVW AX, K1

#define ZERO_SUMS \
	VXORPS X0, X0, X0 \
	VXORPS X1, X1, X1 \
	VXORPS X2, X2, X2 \
	VXORPS X3, X3, X3

// REDUCE_SUMS leaves the sum of the lanes of Z0, Z1, Z2, Z3 in the four lanes of X0.
#define REDUCE_SUMS \
	VEXTRACTF64X4 $1, Z0, Y4 \
	VEXTRACTF64X4 $1, Z1, Y5 \
	VEXTRACTF64X4 $1, Z2, Y6 \
	VEXTRACTF64X4 $1, Z3, Y7 \
	VADDPS  Y4, Y0, Y0       \
	VADDPS  Y5, Y1, Y1       \
	VADDPS  Y6, Y2, Y2       \
	VADDPS  Y7, Y3, Y3       \
	VHADDPS Y1, Y0, Y0       \
	VHADDPS Y3, Y2, Y2       \
	VHADDPS Y2, Y0, Y0       \
	VEXTRACTF128 $1, Y0, X1  \
	VADDPS  X1, X0, X0
