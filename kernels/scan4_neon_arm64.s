//go:build !noasm

#include "textflag.h"
#include "neon_arm64.h"

// The bit of each of four rows.
DATA rowBits<>+0x00(SB)/8, $0x0000000200000001
DATA rowBits<>+0x08(SB)/8, $0x0000000800000004
GLOBL rowBits<>(SB), RODATA|NOPTR, $16

// LOOK_UP replaces the codes of a sub-quantizer by their entries in its table: of rows 0..15 where
// the codes were, and of rows 16..31 in high.
#define LOOK_UP(codes, table, high) \
	VUSHR $4, codes.B16, high.B16             \
	VAND  V31.B16, codes.B16, codes.B16       \
	VTBL  high.B16, [table.B16], high.B16     \
	VTBL  codes.B16, [table.B16], codes.B16

// ADD_BYTES adds the bytes of rows 0..15 and of rows 16..31 to the sums of words.
#define ADD_BYTES(low, high) \
	VUADDW  low.B8, V0.H8, V0.H8    \
	VUADDW2 low.B16, V1.H8, V1.H8   \
	VUADDW  high.B8, V2.H8, V2.H8   \
	VUADDW2 high.B16, V3.H8, V3.H8

// WIDEN adds 8 sums of words to 8 of 32 bits.
#define WIDEN(words, low, high) \
	VUADDW  words.H4, low.S4, low.S4  \
	VUADDW2 words.H8, high.S4, high.S4

// ESTIMATE turns the sums of the next 4 rows, in the vector of that number, into estimates on the
// stack: multiplied and added exactly as the reference does. Bits of R16, from bit on, are set
// for those below the limit.
#define ESTIMATE(sums, bit) \
	VLD1.P 8(R14), [V5.H4]   \
	VLD1.P 8(R15), [V6.H4]   \
	FCVTL(5, 5)              \
	FCVTL(6, 6)              \
	SCVTF(sums, 4)           \
	FMUL(24, 4, 4)           \
	FADD(25, 4, 4)           \
	FMUL(6, 4, 4)            \
	FADD(5, 4, 4)            \
	FCMGT(4, 26, 7)          \
	VST1.P [V4.S4], 16(R17)  \
	VAND   V27.B16, V7.B16, V7.B16 \
	VADDV  V7.S4, V7         \
	VMOV   V7.S[0], R19      \
	ORR    R19<<bit, R16, R16

// func scan4NEON(blocks *byte, count int, lut *byte, subQuantizers int, scan *Scan, mask *uint32, first int, est *float32, rows *uint32) int
//
//	R0        block
//	R1        blocks left
//	R2        look-up table
//	R3        sub-quantizers
//	R4        mask, of the blocks left
//	R5        row number of the block
//	R6        est
//	R7        rows
//	R8        kept rows
//	R9        codes, from the sub-quantizer on that is next
//	R10       its table
//	R11       sub-quantizers of the block left
//	R12       those of the chunk
//	R13       rows of the block that are allowed
//	R14, R15  factors, additive and other
//	R16       rows to keep
//	R17, R19, R20  scratch
//	V0..V3    sums of words in a chunk, 8 rows each
//	V4..V7    codes of four sub-quantizers, then their entries; scratch
//	V8..V11   their tables
//	V12..V15  entries of rows 16..31
//	V16..V23  sums of 32 bits, 4 rows each
//	V24..V26  scale, bias, limit
//	V27       bits of rows
//	V31       0x0f in every byte
//	estimates-128(SP)  estimates of the block
TEXT ·scan4NEON(SB), NOSPLIT, $128-80
	MOVD    blocks+0(FP), R0
	MOVD    count+8(FP), R1
	MOVD    lut+16(FP), R2
	MOVD    subQuantizers+24(FP), R3
	MOVD    scan+32(FP), R13
	MOVD    mask+40(FP), R4
	MOVD    first+48(FP), R5
	MOVD    est+56(FP), R6
	MOVD    rows+64(FP), R7
	MOVD    $0, R8
	VLD1R.P 4(R13), [V24.S4]
	VLD1R.P 4(R13), [V25.S4]
	VLD1R   (R13), [V26.S4]
	MOVD    $rowBits<>(SB), R13
	VLD1    (R13), [V27.B16]
	VMOVI   $15, V31.B16

block:
	MOVWU.P 4(R4), R13
	LSL     $4, R3, R14
	ADD     R0, R14, R14
	ADD     $64, R14, R15
	CBZ     R13, next
	VEOR    V16.B16, V16.B16, V16.B16
	VEOR    V17.B16, V17.B16, V17.B16
	VEOR    V18.B16, V18.B16, V18.B16
	VEOR    V19.B16, V19.B16, V19.B16
	VEOR    V20.B16, V20.B16, V20.B16
	VEOR    V21.B16, V21.B16, V21.B16
	VEOR    V22.B16, V22.B16, V22.B16
	VEOR    V23.B16, V23.B16, V23.B16
	MOVD    R0, R9
	MOVD    R2, R10
	MOVD    R3, R11

	// 1024 sub-quantizers at a time: 1024 · 63 fits a word, as 4 · 63 fits a byte.
chunk:
	MOVD $1024, R12
	CMP  R12, R11
	CSEL LT, R11, R12, R12
	SUB  R12, R11, R11
	VEOR V0.B16, V0.B16, V0.B16
	VEOR V1.B16, V1.B16, V1.B16
	VEOR V2.B16, V2.B16, V2.B16
	VEOR V3.B16, V3.B16, V3.B16
	SUBS $4, R12
	BLT  rest

four:
	VLD1.P 64(R9), [V4.B16, V5.B16, V6.B16, V7.B16]
	VLD1.P 64(R10), [V8.B16, V9.B16, V10.B16, V11.B16]
	LOOK_UP(V4, V8, V12)
	LOOK_UP(V5, V9, V13)
	LOOK_UP(V6, V10, V14)
	LOOK_UP(V7, V11, V15)
	VADD   V5.B16, V4.B16, V4.B16
	VADD   V13.B16, V12.B16, V12.B16
	VADD   V7.B16, V6.B16, V6.B16
	VADD   V15.B16, V14.B16, V14.B16
	VADD   V6.B16, V4.B16, V4.B16
	VADD   V14.B16, V12.B16, V12.B16
	ADD_BYTES(V4, V12)
	SUBS   $4, R12
	BGE    four

rest:
	ADDS $4, R12
	BEQ  widen

one:
	VLD1.P 16(R9), [V4.B16]
	VLD1.P 16(R10), [V8.B16]
	LOOK_UP(V4, V8, V12)
	ADD_BYTES(V4, V12)
	SUBS   $1, R12
	BNE    one

widen:
	WIDEN(V0, V16, V17)
	WIDEN(V1, V18, V19)
	WIDEN(V2, V20, V21)
	WIDEN(V3, V22, V23)
	CBNZ R11, chunk

	MOVD $0, R16
	MOVD $estimates-128(SP), R17
	ESTIMATE(16, 0)
	ESTIMATE(17, 4)
	ESTIMATE(18, 8)
	ESTIMATE(19, 12)
	ESTIMATE(20, 16)
	ESTIMATE(21, 20)
	ESTIMATE(22, 24)
	ESTIMATE(23, 28)
	ANDW R13, R16, R16
	CBZW R16, next
	MOVD $estimates-128(SP), R17

	// Few rows are below the limit of a search that is under way.
keep:
	RBITW R16, R19
	CLZW  R19, R19
	MOVWU (R17)(R19<<2), R20
	MOVW  R20, (R6)(R8<<2)
	ADDW  R5, R19, R19
	MOVW  R19, (R7)(R8<<2)
	ADD   $1, R8
	SUBW  $1, R16, R20
	ANDW  R20, R16, R16
	CBNZW R16, keep

next:
	LSL  $4, R3, R14
	ADD  R14, R0, R0
	ADD  $128, R0, R0
	ADD  $32, R5, R5
	SUBS $1, R1
	BNE  block
	MOVD R8, ret+72(FP)
	RET
