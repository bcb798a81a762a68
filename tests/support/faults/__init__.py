"""What compilers and runtimes get wrong, injected on purpose: is it refused at export, and what does it do to faces?"""
