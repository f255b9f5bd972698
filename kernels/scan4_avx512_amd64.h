// What the code scans share with AVX-512. Registers as in scan4_amd64.h, and
//
//	Z16, Z17, Z18  scale, bias, limit
//	Z19            0, 1, …, 15
//	Z20            0x0f in every byte

DATA iota16<>+0x00(SB)/8, $0x0000000100000000
DATA iota16<>+0x08(SB)/8, $0x0000000300000002
DATA iota16<>+0x10(SB)/8, $0x0000000500000004
DATA iota16<>+0x18(SB)/8, $0x0000000700000006
DATA iota16<>+0x20(SB)/8, $0x0000000900000008
DATA iota16<>+0x28(SB)/8, $0x0000000b0000000a
DATA iota16<>+0x30(SB)/8, $0x0000000d0000000c
DATA iota16<>+0x38(SB)/8, $0x0000000f0000000e
GLOBL iota16<>(SB), RODATA|NOPTR, $64

// LOAD_CONSTANTS takes the address of the Scan in AX.
#define LOAD_CONSTANTS \
	VBROADCASTSS 0(AX), Z16     \
	VBROADCASTSS 4(AX), Z17     \
	VBROADCASTSS 8(AX), Z18     \
	VMOVDQU64 iota16<>(SB), Z19 \
	MOVL $0x0f0f0f0f, AX        \
	VPBROADCASTD AX, Z20

// TAIL_LANES sets K1 to the 32-bit lanes of the last, partial 64 bytes of codes, R8 mod 64.
#define TAIL_LANES \
	MOVQ  R8, R11     \
	ANDQ  $63, R11    \
	SHRQ  $2, R11     \
	MOVL  $0xffff, AX \
	BZHIL R11, AX, AX \
	KMOVW AX, K1

// KEEP16 turns the integer sums of 16 rows, whose factors begin at the given byte after the
// codes, into estimates: multiplied and added exactly as the reference does. Those below the
// limit whose bit in BX is set are appended. A whole vector is stored: before the first half of
// a block at most 32 rows a block are kept, and before the second 16 more, so that there is room.
#define KEEP16(sums, factors, row, skip) \
	VCVTDQ2PS sums, Z4                       \
	VMULPS    Z16, Z4, Z4                    \
	VADDPS    Z17, Z4, Z4                    \
	VCVTPH2PS 64+factors(SI)(R8*1), Z5       \
	VMULPS    Z5, Z4, Z4                     \
	VCVTPH2PS factors(SI)(R8*1), Z5          \
	VADDPS    Z5, Z4, Z4                     \
	KMOVW     BX, K2                         \
	VCMPPS    $0x11, Z18, Z4, K2, K2         \
	KMOVW     K2, AX                         \
	TESTL     AX, AX                         \
	JZ        skip                           \
	LEAL      row(R10), R11                  \
	VPBROADCASTD R11, Z6                     \
	VPADDD    Z19, Z6, Z6                    \
	VCOMPRESSPS Z4, K2, Z5                   \
	VPCOMPRESSD Z6, K2, Z6                   \
	VMOVUPS   Z5, (DI)(R13*4)                \
	VMOVDQU32 Z6, (R12)(R13*4)               \
	POPCNTL   AX, AX                         \
	ADDQ      AX, R13                        \
skip:
