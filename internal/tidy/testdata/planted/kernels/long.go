package kernels

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0

var _ = 0
