def main(bounds): return 0
