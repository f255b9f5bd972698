package kernels

func dot8RowsGeneric(query []int8, rows []byte, stride int, out []int32) {
	for i := range out {
		start := i * stride
		out[i] = dot8Generic(query, rows[start:start+len(query)])
	}
}

func dot8GatherGeneric(query []int8, rows []byte, stride int, which []uint32, out []int32) {
	for i, row := range which {
		start := int(row) * stride
		out[i] = dot8Generic(query, rows[start:start+len(query)])
	}
}

func dot8Generic(a []int8, b []byte) int32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 int32
	i := 0
	for ; i+8 <= len(a); i += 8 {
		x, y := (*[8]int8)(a[i:]), (*[8]byte)(b[i:])
		s0 += int32(x[0])*int32(int8(y[0])) + int32(x[4])*int32(int8(y[4]))
		s1 += int32(x[1])*int32(int8(y[1])) + int32(x[5])*int32(int8(y[5]))
		s2 += int32(x[2])*int32(int8(y[2])) + int32(x[6])*int32(int8(y[6]))
		s3 += int32(x[3])*int32(int8(y[3])) + int32(x[7])*int32(int8(y[7]))
	}
	for ; i < len(a); i++ {
		s0 += int32(a[i]) * int32(int8(b[i]))
	}
	return s0 + s1 + s2 + s3
}
