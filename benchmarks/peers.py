def environments():
    return {}, []
