package kernels

// codebookSpansGeneric returns the widest span of a table's values, and the sum of their minima
// in order. The sum begins with 0, so that it does not show which of two zeros is the minimum.
func codebookSpansGeneric(query, codebook []float32) (widest, total float32) {
	var value [LUTEntries]float32
	for m := range len(query) / 4 {
		least, most := codebookValuesGeneric(query, codebook, m, &value)
		widest = max(widest, most-least)
		total += least
	}
	return widest, total
}

// codebookTablesGeneric quantises the values: (value - minimum) / scale.
func codebookTablesGeneric(query, codebook []float32, lut []byte, widest float32) {
	var value [LUTEntries]float32
	for m := range len(query) / 4 {
		least, _ := codebookValuesGeneric(query, codebook, m, &value)
		table := (*[LUTEntries]byte)(lut[m*LUTEntries:])
		for c, v := range value {
			// Dividing by widest first cannot overflow, however small the query is.
			table[c] = byte(min(max(float32((v-least)/widest*LUTMax)+0.5, 0), LUTMax))
		}
	}
}

// codebookValuesGeneric sets the values of table m: products and sums rounded one by one.
func codebookValuesGeneric(query, codebook []float32, m int, value *[LUTEntries]float32) (least, most float32) {
	q, entries := (*[4]float32)(query[4*m:]), (*[codebookSize]float32)(codebook[m*codebookSize:])
	for c := range value {
		v := float32(q[0] * entries[c])
		for d := 1; d < 4; d++ {
			v += float32(q[d] * entries[(d*LUTEntries+c)%codebookSize])
		}
		value[c] = v
	}
	least, most = value[0], value[0]
	for _, v := range value[1:] {
		if v < least {
			least = v
		}
		if v > most {
			most = v
		}
	}
	return least, most
}
