// The edges that instrumented code has passed, counted by the hash of two return addresses.
unsigned char specbranch_edges[1 << 16];
static unsigned long last;
void __sanitizer_cov_trace_pc(void) {
  unsigned long here = (unsigned long)__builtin_return_address(0);
  specbranch_edges[(here ^ last) & 0xffff] = 1;
  last = here >> 1;
}
