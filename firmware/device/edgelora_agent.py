def run():
    raise NotImplementedError
