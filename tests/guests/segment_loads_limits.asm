; The same, and it reads by a null selector and beyond a limit.
%define LIMITS
%include "segment_loads.asm"
