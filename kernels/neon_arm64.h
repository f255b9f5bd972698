// Vector instructions that Go's assembler does not know, by the encodings of the Arm Architecture
// Reference Manual (A64, Advanced SIMD). Arguments are register numbers in the order of Go: what
// is subtracted, divided by or compared with comes first, the destination last. All work on four
// lanes of 32 bits unless they say otherwise.
#define FADD(m, n, d)   WORD $(0x4E20D400 | (m)<<16 | (n)<<5 | (d)) // d = n + m
#define FSUB(m, n, d)   WORD $(0x4EA0D400 | (m)<<16 | (n)<<5 | (d)) // d = n - m
#define FMUL(m, n, d)   WORD $(0x6E20DC00 | (m)<<16 | (n)<<5 | (d)) // d = n · m
#define FDIV(m, n, d)   WORD $(0x6E20FC00 | (m)<<16 | (n)<<5 | (d)) // d = n / m
#define FMAX(m, n, d)   WORD $(0x4E20F400 | (m)<<16 | (n)<<5 | (d))
#define FMIN(m, n, d)   WORD $(0x4EA0F400 | (m)<<16 | (n)<<5 | (d))
#define FMAXV(n, d)     WORD $(0x6E30F800 | (n)<<5 | (d)) // lowest lane of d = greatest lane of n; the others are 0
#define FMINV(n, d)     WORD $(0x6EB0F800 | (n)<<5 | (d)) // and the least one
#define FADDP(m, n, d)  WORD $(0x6E20D400 | (m)<<16 | (n)<<5 | (d)) // d = sums of the pairs of n, then of m
#define FCMGT(m, n, d)  WORD $(0x6EA0E400 | (m)<<16 | (n)<<5 | (d)) // d = all ones where n > m
#define FABS(n, d)      WORD $(0x4EA0F800 | (n)<<5 | (d))
#define SCVTF(n, d)     WORD $(0x4E21D800 | (n)<<5 | (d)) // int32 to float32
#define FCVTL(n, d)     WORD $(0x0E217800 | (n)<<5 | (d)) // binary16, the lower four, to float32
#define FCVTZU(n, d)    WORD $(0x6EA1B800 | (n)<<5 | (d)) // float32 to uint32, towards zero
#define SMULL(m, n, d)  WORD $(0x0E20C000 | (m)<<16 | (n)<<5 | (d)) // 8 words of the lower bytes of n and m
#define SMULL2(m, n, d) WORD $(0x4E20C000 | (m)<<16 | (n)<<5 | (d)) // 8 words of the upper bytes of n and m
#define SADALP(n, d)    WORD $(0x4E606800 | (n)<<5 | (d)) // d += sums of the pairs of 8 words of n
#define SDOT(m, n, d)   WORD $(0x4E809400 | (m)<<16 | (n)<<5 | (d)) // d += inner products of 4 bytes of n and m (ASIMDDP)
