from tests.assets.zoo import zoo

__all__ = ["zoo"]
