"""x"""
HELP="x"
def add_arguments(p): pass
def run(o,c): return 0
