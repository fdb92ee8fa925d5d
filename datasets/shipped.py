from pathlib import Path

DEEPPCB = Path(__file__).parent / "deeppcb"  # YOLO layout, parts train and val; see its README.md
