"""The doctor: looks at a set-up from outside, changes nothing, and says of each thing found what to do about it."""
