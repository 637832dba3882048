VERSION: str
COMPILER: str
BUILD_TYPE: str
FLAGS: dict[str, str]
