"""``python -m captum_plq``, the same as ``captum-plq``."""

from captum_plq.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
